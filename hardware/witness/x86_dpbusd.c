/* vpdpbusd, or vpdpbusds with SATURATE: u8 x s8, four products into an int32 lane. WIDTH is 256 or 512; with VEX the
 * 256-bit AVX-VNNI encoding, else the AVX512_VNNI one. */
#define GROUP 4
#define CHANNELS (WIDTH / 32)
#define OUTPUTS 1
#include "matmul.h"

#ifdef VEX
#define PREFIX "%{vex%} "
#else
#define PREFIX "%{evex%} "
#endif
#ifdef SATURATE
#define INSTRUCTION PREFIX "vpdpbusds"
#else
#define INSTRUCTION PREFIX "vpdpbusd"
#endif

typedef int32_t vector __attribute__((vector_size(WIDTH / 8)));

static int supported(void) {
#ifdef VEX
    return __builtin_cpu_supports("avxvnni");
#else
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl");
#endif
}

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    const int32_t *four = (const int32_t *)a;
    const vector *panel = (const vector *)w, zero = {0};
    vector sum = *(const vector *)start;
    for (unsigned s = 0; s < steps; s++) {
        vector u8 = zero + four[s];
        __asm__ volatile(INSTRUCTION " %2, %1, %0" : "+x"(sum) : "x"(u8), "x"(panel[s]));
    }
    *(vector *)out = sum;
}
