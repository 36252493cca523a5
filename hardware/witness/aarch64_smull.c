/* SMULL, SMLAL2, SADALP: gemmlowp's int8 kernel. Products j and j + 8 of sixteen meet in a 16-bit lane, neighbouring
 * lanes are added into one of four 32-bit lanes, the four are added up at the end. The initial accumulator enters last,
 * as the bias does there. */
#define GROUP 16
#define CHANNELS 1
#define OUTPUTS 1
#include "matmul.h"

#include <arm_neon.h>

static int supported(void) { return 1; }

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    int32x4_t sum = vdupq_n_s32(0);
    for (unsigned s = 0; s < steps; s++) {
        int8x16_t x = vld1q_s8((const int8_t *)a + 16 * s), y = vld1q_s8((const int8_t *)w + 16 * s);
        int16x8_t pairs;
        __asm__ volatile("smull %0.8h, %1.8b, %2.8b" : "=w"(pairs) : "w"(x), "w"(y));
        __asm__ volatile("smlal2 %0.8h, %1.16b, %2.16b" : "+w"(pairs) : "w"(x), "w"(y));
        __asm__ volatile("sadalp %0.4s, %1.8h" : "+w"(sum) : "w"(pairs));
    }
    out[0] = (int32_t)((uint32_t)vaddvq_s32(sum) + (uint32_t)start[0]);
}
