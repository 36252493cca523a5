/* gemmlowp's requantizer on NEON: SQRDMULH, then a rounding right shift SRSHL, without and with the correction that
 * makes ties round away from zero (x & -shift, its sign, a saturating add).
 *
 * In (little endian): uint32 count; int32 multiplier, left shift 0..31, right shift 0..31; count int32.
 * Out: four times count int32: SQRDMULH alone, SRSHL alone, SRSHL corrected, and the whole chain
 * srshl_corrected(sqrdmulh(x << left, multiplier), right).
 */
#include "stream.h"

#include <arm_neon.h>

enum { MAX_COUNT = 1 << 21 };
static int32_t values[MAX_COUNT], high[MAX_COUNT], shifted[MAX_COUNT], corrected[MAX_COUNT], chain[MAX_COUNT];

static int32x4_t high_product(int32x4_t x, int32x4_t multiplier) {
    int32x4_t y;
    __asm__("sqrdmulh %0.4s, %1.4s, %2.4s" : "=w"(y) : "w"(x), "w"(multiplier));
    return y;
}

static int32x4_t round_shift(int32x4_t x, int32x4_t minus_shift) {
    int32x4_t y;
    __asm__("srshl %0.4s, %1.4s, %2.4s" : "=w"(y) : "w"(x), "w"(minus_shift));
    return y;
}

static int32x4_t correct(int32x4_t x, int32x4_t minus_shift) {
    int32x4_t sign = vshrq_n_s32(vandq_s32(x, minus_shift), 31), y;
    __asm__("sqadd %0.4s, %1.4s, %2.4s" : "=w"(y) : "w"(x), "w"(sign));
    return y;
}

int main(void) {
    uint32_t count;
    int32_t given[3];
    get(&count, sizeof count);
    get(given, sizeof given);
    if (count > MAX_COUNT || count % 4) return BAD_INPUT;
    get(values, 4ul * count);
    const int32x4_t multiplier = vdupq_n_s32(given[0]), left = vdupq_n_s32(given[1]), right = vdupq_n_s32(-given[2]);
    for (uint32_t i = 0; i < count; i += 4) {
        int32x4_t x = vld1q_s32(values + i), product = high_product(vshlq_s32(x, left), multiplier);
        vst1q_s32(high + i, high_product(x, multiplier));
        vst1q_s32(shifted + i, round_shift(x, right));
        vst1q_s32(corrected + i, round_shift(correct(x, right), right));
        vst1q_s32(chain + i, round_shift(correct(product, right), right));
    }
    put(high, 4ul * count);
    put(shifted, 4ul * count);
    put(corrected, 4ul * count);
    put(chain, 4ul * count);
    return 0;
}
