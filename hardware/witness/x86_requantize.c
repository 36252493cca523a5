/* The float32 requantizer of x86 libraries: cvtdq2ps, mulps, maxps, minps, cvtps2dq, and the zero point.
 *
 * In (little endian): uint32 count; float scale; int32 zero point, low, high; count int32.
 * Out: count int32.
 */
#include "stream.h"

#include <emmintrin.h>

enum { MAX_COUNT = 1 << 21 };
static int32_t values[MAX_COUNT] __attribute__((aligned(16))), results[MAX_COUNT] __attribute__((aligned(16)));

int main(void) {
    uint32_t count;
    float scale;
    int32_t given[3];
    get(&count, sizeof count);
    get(&scale, sizeof scale);
    get(given, sizeof given);
    if (count > MAX_COUNT || count % 4) return BAD_INPUT;
    get(values, 4ul * count);
    const __m128 factor = _mm_set1_ps(scale);
    const __m128 low = _mm_set1_ps((float)(given[1] - given[0])), high = _mm_set1_ps((float)(given[2] - given[0]));
    const __m128i zero_point = _mm_set1_epi32(given[0]);
    for (uint32_t i = 0; i < count; i += 4) {
        __m128 x;
        __m128i y;
        __asm__("cvtdq2ps %1, %0" : "=x"(x) : "m"(*(const __m128i *)(values + i)));
        __asm__("mulps %1, %0" : "+x"(x) : "x"(factor));
        __asm__("maxps %1, %0" : "+x"(x) : "x"(low));
        __asm__("minps %1, %0" : "+x"(x) : "x"(high));
        __asm__("cvtps2dq %1, %0" : "=x"(y) : "x"(x));
        _mm_store_si128((__m128i *)(results + i), _mm_add_epi32(y, zero_point));
    }
    put(results, 4ul * count);
    return 0;
}
