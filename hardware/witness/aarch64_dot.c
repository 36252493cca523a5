/* SDOT, UDOT or USDOT, whichever INSTRUCTION names: four byte products into a 32-bit lane. USDOT's first operand, the
 * activation, is the unsigned one. */
#define GROUP 4
#define CHANNELS 4
#define OUTPUTS 1
#include "matmul.h"

#include <arm_neon.h>
#include <sys/auxv.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

/* asm/hwcap.h */
#define HAS_DOT (getauxval(AT_HWCAP) >> 20 & 1)
#define HAS_I8MM (getauxval(AT_HWCAP2) >> 13 & 1)

static int supported(void) { return NEEDS; }

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    int32x4_t sum = vld1q_s32(start);
    for (unsigned s = 0; s < steps; s++) {
        int32x4_t x = vdupq_n_s32(((const int32_t *)a)[s]), y = vld1q_s32((const int32_t *)w + 4 * s);
        __asm__ volatile(TEXT(INSTRUCTION) " %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(y));
    }
    vst1q_s32(out, sum);
}
