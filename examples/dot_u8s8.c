/* A dot product of unsigned activations and signed weights as AVX2 computes it: vpmaddubsw adds two neighbouring products
 * into a saturating 16-bit register, vpmaddwd adds two of those, vpaddd adds the rest, the last two in 32 bits that wrap.
 * The bias comes last. In plain C, for any number of terms; check_my_kernel.py tests it.
 *
 * With -DNO_SATURATION the pair is added in 32 bits, a mistake that a port makes easily and that small values hide.
 */
#include <stddef.h>
#include <stdint.h>

static int32_t saturate16(int32_t x)
{
#ifdef NO_SATURATION
    return x;
#else
    return x > INT16_MAX ? INT16_MAX : x < INT16_MIN ? INT16_MIN : x;
#endif
}

int32_t dot_u8s8(const uint8_t *activation, const int8_t *weight, size_t terms, int32_t bias)
{
    uint32_t sum = 0; /* unsigned: wrapping is defined */
    for (size_t k = 0; k < terms; k += 2) {
        int32_t pair = activation[k] * weight[k];
        if (k + 1 < terms)
            pair += activation[k + 1] * weight[k + 1];
        sum += (uint32_t)saturate16(pair);
    }
    return (int32_t)(sum + (uint32_t)bias);
}
