/* Lists of positions: whether they ascend, bits of them and back, sorting what was drawn. */
#include <stdlib.h>
#include <string.h>

#include "share.h"

/* Is each higher than the one before, and all in 0 .. numel - 1? */
EXPORT int regrow_ascend(const void *at, int64_t n, int wide, int64_t numel, int threads) {
    if (n && (get(at, wide, 0) < 0 || get(at, wide, n - 1) >= numel)) return 0;
    int falls = 0;
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads) reduction(| : falls)
    {
        const int64_t first = part(n - (n > 0), 0), end = part(n - (n > 0), 1);
        if (wide)
            for (int64_t k = first; k < end; k++) falls |= get(at, 1, k + 1) <= get(at, 1, k);
        else
            for (int64_t k = first; k < end; k++) falls |= ((const int32_t *)at)[k + 1] <= ((const int32_t *)at)[k];
    }
    return !falls;
}

INLINE int64_t mark_step(uint64_t *bits, int64_t position) {
    const uint64_t word = bits[position / 64], bit = (uint64_t)1 << position % 64;
    bits[position / 64] = word | bit;
    return !(word & bit);
}

/* The first of the n positions, from k on, that begins a word of bits. */
INLINE int64_t word_from(const void *at, int wide, int64_t n, int64_t k) {
    while (k > 0 && k < n && get(at, wide, k) / 64 == get(at, wide, k - 1) / 64) k++;
    return k;
}

INLINE int64_t mark(uint64_t *bits, const void *at, int wide, int64_t n) {
    const int64_t shares = omp_get_num_threads() * LANES;
    int64_t k[LANES], stop[LANES], added = 0;
    EACH_LANE {
        const int64_t share = omp_get_thread_num() * LANES + l;
        k[l] = word_from(at, wide, n, n * share / shares);
        stop[l] = word_from(at, wide, n, n * (share + 1) / shares);
    }
    int64_t all = INT64_MAX;
    EACH_LANE if (stop[l] - k[l] < all) all = stop[l] - k[l];
    for (; all > 0; all--) EACH_LANE added += mark_step(bits, get(at, wide, k[l]++));
    EACH_LANE while (k[l] < stop[l]) added += mark_step(bits, get(at, wide, k[l]++));
    return added;
}

/* Set the bits of these positions; returns how many were not set before. */
EXPORT int64_t regrow_mark(uint64_t *bits, const void *at, int64_t n, int wide, int threads) {
    int64_t added = 0;
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads) reduction(+ : added)
    added = wide ? mark(bits, at, 1, n) : mark(bits, at, 0, n);
    return added;
}

INLINE void list(const uint64_t *bits, int64_t word, int64_t end, int wide, void *to, int64_t k) {
    for (; word < end; word++)
        for (uint64_t left = bits[word]; left; left &= left - 1) put(to, wide, k++, 64 * word + __builtin_ctzll(left));
}

/* to = the positions whose bits are set, ascending. */
EXPORT void regrow_list(const uint64_t *bits, int64_t words, int wide, void *to, int threads) {
    int64_t total = 0;
#pragma omp parallel num_threads(words < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(words, 0), end = part(words, 1);
        int64_t mine = 0, before = 0;
        for (int64_t word = first; word < end; word++) mine += __builtin_popcountll(bits[word]);
        IN_TURN {
            before = total;
            total += mine;
        }
        if (wide) list(bits, first, end, 1, to, before);
        else list(bits, first, end, 0, to, before);
    }
}

#define MOST 12    /* bits of a digit */

/* Sorts `at` [n] by digits, from the lowest on, in an even number of rounds. Works in room [n]. */
INLINE void sort(void *at, int64_t n, int wide, int rounds, int bits, void *room, int64_t *counts) {
    const int64_t digits = (int64_t)1 << bits;
    for (int round = 0; round < rounds; round++) {
        const void *from = round % 2 ? room : at;
        void *to = round % 2 ? at : room;
        memset(counts, 0, digits * sizeof *counts);
        for (int64_t k = 0; k < n; k++) counts[get(from, wide, k) >> round * bits & (digits - 1)]++;
        for (int64_t digit = 0, total = 0; digit < digits; digit++) {    /* a count becomes the place of the first one */
            const int64_t here = counts[digit];
            counts[digit] = total;
            total += here;
        }
        for (int64_t k = 0; k < n; k++) {
            const int64_t position = get(from, wide, k);
            put(to, wide, counts[position >> round * bits & (digits - 1)]++, position);
        }
    }
}

/* to = those of `at` [n], which ascend, each once; returns how many. May be done in place. */
INLINE int64_t once(const void *at, int64_t n, int wide, void *to) {
    int64_t kept = 0;
    for (int64_t k = 0; k < n; k++) {
        const int64_t position = get(at, wide, k);
        put(to, wide, kept, position);
        kept += k + 1 == n || position != get(at, wide, k + 1);
    }
    return kept;
}

/* How many of `at` [n] are lower than this one. */
INLINE int64_t lower(const void *at, int64_t n, int wide, int64_t bound) {
    int64_t found = 0;
    if (wide)
        for (int64_t k = 0; k < n; k++) found += get(at, 1, k) < bound;
    else
        for (int64_t k = 0; k < n; k++) found += ((const int32_t *)at)[k] < (int32_t)bound;
    return found;
}

/* to [count] = those of `at` from `first` to before `last`. */
INLINE void between(const void *at, int wide, int64_t first, int64_t last, int64_t count, void *to) {
    for (int64_t k = 0, found = 0; found < count; k++) {
        const int64_t position = get(at, wide, k);
        put(to, wide, found, position);
        found += (position >= first) & (position < last);
    }
}

/* Each thread sorts what lies in its share of the range, so that no two write to one place. */
INLINE int64_t distinct(void *at, int64_t n, int wide, int64_t largest, void *room, int64_t *counts, int threads) {
    const int64_t size = wide ? 8 : 4;
    int length = 1;
    while (length < 63 && largest >> length) length++;
    const int rounds = 2 * ((length + 2 * MOST - 1) / (2 * MOST)), bits = (length + rounds - 1) / rounds;
    int64_t kept = 0;
#pragma omp parallel num_threads(threads)
    {
        const int64_t me = omp_get_thread_num(), all = omp_get_num_threads(), each = largest / all + 1;
        const int64_t begin = me ? lower(at, n, wide, me * each) : 0;
        const int64_t end = me + 1 < all ? lower(at, n, wide, (me + 1) * each) : n;
        char *mine = (char *)at + begin * size, *other = (char *)room + begin * size;
        if (all > 1) {
            between(at, wide, me * each, me + 1 < all ? (me + 1) * each : INT64_MAX, end - begin, other);
#pragma omp barrier
            sort(other, end - begin, wide, rounds, bits, mine, counts + (me << MOST));
        } else sort(mine, n, wide, rounds, bits, other, counts);
        const int64_t some = once(all > 1 ? other : mine, end - begin, wide, mine);
        IN_TURN {
            memmove((char *)at + kept * size, mine, some * size);
            kept += some;
        }
    }
    return kept;
}

/* Sorts `at` [n], none of which is negative, and drops what repeats. Returns how many are left; -1: there is no memory.
   Works in room [n]. */
EXPORT int64_t regrow_distinct(void *at, int64_t n, int wide, int64_t largest, void *room, int threads) {
    if (n < ENOUGH) threads = 1;
    int64_t *counts = malloc(((size_t)threads << MOST) * sizeof *counts);
    if (!counts) return -1;
    const int64_t kept = wide ? distinct(at, n, 1, largest, room, counts, threads)
                              : distinct(at, n, 0, largest, room, counts, threads);
    free(counts);
    return kept;
}
