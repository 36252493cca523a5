/* vpmaddubsw, vpaddsw: FBGEMM's 16-bit accumulation. A 16-bit lane is a channel; every SPILL products the lanes are
 * sign-extended and added to 32-bit accumulators. Initial accumulators are those of 32 bits. */
#define GROUP 2
#define CHANNELS 16
#define OUTPUTS 1
#include "matmul.h"

typedef int16_t vector __attribute__((vector_size(32)));

static int supported(void) { return __builtin_cpu_supports("avx2"); }

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    const int16_t *two = (const int16_t *)a;
    const vector *panel = (const vector *)w, zero = {0};
    vector sum = zero, pairs;
    for (unsigned c = 0; c < CHANNELS; c++) out[c] = start[c];
    for (unsigned s = 0; s < steps; s++) {
        vector u8 = zero + two[s];
        __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(u8), "x"(panel[s]));
        __asm__ volatile("vpaddsw %2, %1, %0" : "=x"(sum) : "x"(sum), "x"(pairs));
        if ((s + 1) % (SPILL / 2) == 0 || s + 1 == steps) {
            for (unsigned c = 0; c < CHANNELS; c++) out[c] = (int32_t)((uint32_t)out[c] + (uint32_t)sum[c]);
            sum = zero;
        }
    }
}
