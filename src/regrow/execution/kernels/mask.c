/* Floats under a mask of one bit each: a pass reads 1/32 of what a mask of floats would cost. */
#include "kernels.h"
#include "vector.h"

#define WORD 32
#define GROUP(i) 1u << i, 2u << i, 4u << i, 8u << i

typedef uint32_t flags __attribute__((vector_size(4 * VW)));

static const union {
    uint32_t one[WORD];
    flags of[WORD / VW];
} bit = {{GROUP(0), GROUP(4), GROUP(8), GROUP(12), GROUP(16), GROUP(20), GROUP(24), GROUP(28)}};

#define NAME_(isa) regrow_keep_##isa
#define NAME(isa) NAME_(isa)
void NAME(ISA)(float *at, const uint32_t *bits, int64_t n, float rest) {
    const flags other = (flags)spread(rest);
    int64_t first = 0;
    for (; first + WORD <= n; first += WORD) {
        const flags word = bits[first / WORD] - (flags){0};
        UNROLL for (int g = 0; g < WORD / VW; g++) {
            float *here = at + first + g * VW;
            const flags active = (flags)((word & bit.of[g]) != 0);
            store(here, (vec)(((flags)load(here) & active) | (other & ~active)));
        }
    }
    for (; first < n; first++)
        if (!(bits[first / WORD] & bit.one[first % WORD])) at[first] = rest;
}
