/* vrmpy on Hexagon HVX: u8 x s8, four products into each of 32 words. Freestanding: the compiler has no C library. */
#define GROUP 4
#define CHANNELS 32
#define OUTPUTS 1
#include "matmul.h"

typedef int32_t vector __attribute__((vector_size(128)));

static int supported(void) { return 1; }

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    const vector *panel = (const vector *)w;
    vector sum = *(const vector *)start, u8;
    for (unsigned s = 0; s < steps; s++) {
        __asm__ volatile("%0 = vsplat(%1)" : "=v"(u8) : "r"(((const int32_t *)a)[s]));
        __asm__ volatile("%0.w += vrmpy(%1.ub, %2.b)" : "+v"(sum) : "v"(u8), "v"(panel[s]));
    }
    *(vector *)out = sum;
}
