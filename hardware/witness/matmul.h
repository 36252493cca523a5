/* main() of every accumulating witness: a matrix product whose inner loop is one instruction sequence.
 *
 * The file that includes this defines, before including it,
 *   GROUP     bytes of one channel that one step takes,
 *   CHANNELS  channels that `block` computes at once,
 *   OUTPUTS   results of a channel (the accumulator first),
 * and after it
 *   int supported(void)   whether this CPU has the instruction,
 *   void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out)
 *     a: steps x GROUP activations; w: steps x CHANNELS x GROUP weights; start: CHANNELS initial accumulators;
 *     out: CHANNELS x OUTPUTS.
 *
 * In (little endian): uint32 M, N, K; N x K weights; N initial accumulators, int32; M x K activations. K counts bytes,
 * whatever the operands are. Out: M x N x OUTPUTS int32. K is padded with zero products to whole steps, as kernels do.
 */
#ifndef WITNESS_MATMUL_H
#define WITNESS_MATMUL_H

#include "stream.h"

static int supported(void);
static void block(const uint8_t *a, const uint8_t *w, unsigned steps, const int32_t *start, int32_t *out);

enum { MAX_WEIGHTS = 1 << 24, MAX_CHANNELS = 1 << 16, MAX_DEPTH = 1 << 14 };

static uint8_t weights[MAX_WEIGHTS] __attribute__((aligned(128)));
static uint8_t activations[MAX_DEPTH + 128] __attribute__((aligned(128)));
static int32_t starts[MAX_CHANNELS] __attribute__((aligned(128)));
static int32_t results[MAX_CHANNELS * OUTPUTS] __attribute__((aligned(128)));
static uint8_t line[MAX_DEPTH];

static int run(void) {
    uint32_t size[3];
    if (!supported()) return NO_INSTRUCTION;
    get(size, sizeof size);
    const uint32_t rows = size[0], channels = size[1], depth = size[2];
    const uint32_t steps = (depth + GROUP - 1) / GROUP, blocks = (channels + CHANNELS - 1) / CHANNELS;
    if (depth > MAX_DEPTH || channels > MAX_CHANNELS - CHANNELS) return BAD_INPUT;
    if ((uint64_t)blocks * CHANNELS * steps * GROUP > MAX_WEIGHTS) return BAD_INPUT;
    const uint32_t block_bytes = steps * CHANNELS * GROUP;
    for (uint32_t n = 0; n < channels; n++) {
        get(line, depth);
        uint8_t *panel = weights + (n / CHANNELS) * block_bytes + (n % CHANNELS) * GROUP;
        for (uint32_t k = 0; k < depth; k++) panel[(k / GROUP) * (CHANNELS * GROUP) + k % GROUP] = line[k];
    }
    get(starts, 4ul * channels);
    for (uint32_t m = 0; m < rows; m++) {
        get(activations, depth);
        for (uint32_t b = 0; b < blocks; b++)
            block(activations, weights + b * block_bytes, steps, starts + b * CHANNELS,
                  results + b * CHANNELS * OUTPUTS);
        put(results, 4ul * OUTPUTS * channels);
    }
    return 0;
}

#ifdef WITNESS_FREESTANDING
void _start(void) { leave(run()); }
#else
int main(void) { return run(); }
#endif

#endif
