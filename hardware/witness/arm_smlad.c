/* SMLAD: CMSIS-NN's inner loop on a Cortex-M with the DSP extension. A SMLAD adds two 16-bit products to the
 * accumulator. SXTB16, PKHBT and PKHTB turn four bytes into two words of two 16-bit values in their order; with
 * HALFWORDS the operands are 16-bit already. The second output is the Q flag: some sum left 32 bits. */
#define GROUP 4
#define CHANNELS 1
#define OUTPUTS 2
#include "matmul.h"

static int supported(void) { return 1; }

#ifndef HALFWORDS
static void expand(uint32_t bytes, uint32_t *low, uint32_t *high) {
    uint32_t odd, even;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(bytes));
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(bytes));
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(*low) : "r"(even), "r"(odd));
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(*high) : "r"(odd), "r"(even));
}
#endif

static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out) {
    uint32_t sum = (uint32_t)start[0], flags = 0;
    __asm__ volatile("msr apsr_nzcvq, %0" : : "r"(flags) : "cc");
    for (unsigned s = 0; s < steps; s++) {
#ifdef HALFWORDS
        __asm__ volatile("smlad %0, %1, %2, %0"
                         : "+r"(sum) : "r"(((const uint32_t *)a)[s]), "r"(((const uint32_t *)w)[s]));
#else
        uint32_t x[2], y[2];
        expand(((const uint32_t *)a)[s], &x[0], &x[1]);
        expand(((const uint32_t *)w)[s], &y[0], &y[1]);
        __asm__ volatile("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x[0]), "r"(y[0]));
        __asm__ volatile("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x[1]), "r"(y[1]));
#endif
    }
    __asm__ volatile("mrs %0, apsr" : "=r"(flags));
    out[0] = (int32_t)sum;
    out[1] = flags >> 27 & 1;
}
