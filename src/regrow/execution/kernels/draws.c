/* What torch.randint draws of a range below 2^28, number for number: the Mersenne Twister's words, tempered, modulo the
   range. Words follow from words, so one thread makes them all; what becomes of them all threads share. */
#include <string.h>

#include "share.h"

#define WORDS 624
#define SHIFT 397

/* A generator's state as torch gives it, of which no more is of interest: `left` - 1 words from `next` on are unused. */
typedef struct {
    uint64_t seed;
    int32_t left, seeded;
    uint64_t next, words[WORDS];
} generator;

INLINE uint32_t twisted(uint32_t here, uint32_t next, uint32_t far) {
    const uint32_t both = (here & 0x80000000u) | (next & 0x7fffffffu);
    return far ^ both >> 1 ^ (-(both & 1) & 0x9908b0dfu);
}

static void twist(uint32_t *w) {
    for (int i = 0; i < WORDS - SHIFT; i++) w[i] = twisted(w[i], w[i + 1], w[i + SHIFT]);
    for (int i = WORDS - SHIFT; i < WORDS - 1; i++) w[i] = twisted(w[i], w[i + 1], w[i + SHIFT - WORDS]);
    w[WORDS - 1] = twisted(w[WORDS - 1], w[0], w[SHIFT - 1]);
}

static void take(generator *g, int64_t n, uint32_t *to) {
    uint32_t words[WORDS];
    for (int i = 0; i < WORDS; i++) words[i] = (uint32_t)g->words[i];
    for (int64_t k = 0; k < n;) {
        if (g->left == 1) {
            twist(words);
            g->left = WORDS + 1;
            g->next = 0;
        }
        const int64_t some = n - k < g->left - 1 ? n - k : g->left - 1;
        memcpy(to + k, words + g->next, some * sizeof *to);
        g->left -= some;
        g->next += some;
        k += some;
    }
    for (int i = 0; i < WORDS; i++) g->words[i] = words[i];
}

INLINE uint32_t tempered(uint32_t y) {
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* y % numel, by 2^64 / numel, rounded up (Lemire, Kaser and Kurz 2019). */
INLINE uint32_t modulo(uint32_t y, uint64_t inverse, uint32_t numel) {
    return (uint32_t)((unsigned __int128)(inverse * y) * numel >> 64);
}

/* to [n] = the generator's next numbers below numel, which is less than 2^28. */
EXPORT void regrow_draws(void *state, int64_t numel, int64_t n, uint32_t *to, int threads) {
    generator g;
    memcpy(&g, state, sizeof g);
    take(&g, n, to);
    memcpy(state, &g, sizeof g);
    const uint64_t inverse = UINT64_MAX / (uint64_t)numel + 1;
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads)
    for (int64_t k = part(n, 0), end = part(n, 1); k < end; k++) to[k] = modulo(tempered(to[k]), inverse, (uint32_t)numel);
}
