/* vpmaddubsw, vpmaddwd by ones, vpaddd: u8 x s8 on AVX2 and on AVX-512 without VNNI. WIDTH is 256 or 512. */
#define GROUP 4
#define CHANNELS (WIDTH / 32)
#define OUTPUTS 1
#include "matmul.h"

typedef int32_t vector __attribute__((vector_size(WIDTH / 8)));

static int supported(void) {
    return WIDTH == 512 ? __builtin_cpu_supports("avx512bw") : __builtin_cpu_supports("avx2");
}

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    const int32_t *four = (const int32_t *)a;
    const vector *panel = (const vector *)w, zero = {0}, ones = zero + 0x00010001;
    vector sum = *(const vector *)start, pairs, quads;
    for (unsigned s = 0; s < steps; s++) {
        vector u8 = zero + four[s];
        /* AT&T order: the unsigned operand is the middle one */
        __asm__ volatile("vpmaddubsw %2, %1, %0" : "=v"(pairs) : "v"(u8), "v"(panel[s]));
        __asm__ volatile("vpmaddwd %2, %1, %0" : "=v"(quads) : "v"(pairs), "v"(ones));
        __asm__ volatile("vpaddd %2, %1, %0" : "=v"(sum) : "v"(sum), "v"(quads));
    }
    *(vector *)out = sum;
}
