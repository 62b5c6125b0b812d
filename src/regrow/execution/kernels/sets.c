/* Sets of positions: ascending and distinct. What a function yields is said by the plain one it stands for, in
   core/positions.py. Where two random sets meet no branch could be foreseen: the loops of both have none. */
#include <string.h>

#include "share.h"

INLINE int64_t sources(const void *old, int64_t n, const void *fresh, int64_t k, int64_t end, int wide, int32_t *source) {
    int64_t i = k < end ? below(old, wide, n, get(fresh, wide, k)) : 0, found = 0;
    while (i < n && k < end) {
        const int64_t a = get(old, wide, i), b = get(fresh, wide, k);
        if (source) source[k] = a == b ? (int32_t)i : -1;
        found += a == b;
        i += a <= b;
        k += b <= a;
    }
    for (; source && k < end; k++) source[k] = -1;
    return found;
}

/* source[k] = where in `old` fresh[k] is, else -1; with no `source`, only counts. Returns how many are in both. */
EXPORT int64_t regrow_sources(const void *old, int64_t n, const void *fresh, int64_t m, int wide, int32_t *source,
                              int threads) {
    int64_t found = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads) reduction(+ : found)
    {
        const int64_t first = part(m, 0), end = part(m, 1);
        found = wide ? sources(old, n, fresh, first, end, 1, source) : sources(old, n, fresh, first, end, 0, source);
    }
    return found;
}

INLINE int64_t merge(const void *a, int64_t i, int64_t n, const void *b, int64_t j, int64_t m, int wide, void *to) {
    int64_t k = i + j;
    while (i < n && j < m) {
        const int64_t x = get(a, wide, i), y = get(b, wide, j);
        put(to, wide, k++, x < y ? x : y);
        i += x <= y;
        j += y <= x;
    }
    while (i < n) put(to, wide, k++, get(a, wide, i++));
    while (j < m) put(to, wide, k++, get(b, wide, j++));
    return k;
}

/* to [n + m] = what is in either; returns how many. A thread takes its share of `a`, and of `b` what lies there. */
EXPORT int64_t regrow_union(const void *a, int64_t n, const void *b, int64_t m, int wide, void *to, int threads) {
    const int64_t size = wide ? 8 : 4;
    int64_t total = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        const int64_t i = part(n, 0), end = part(n, 1);
        const int first = omp_get_thread_num() == 0, last = omp_get_thread_num() + 1 == omp_get_num_threads();
        const int64_t j = first ? 0 : i < n ? below(b, wide, m, get(a, wide, i)) : m;
        const int64_t stop = last || end == n ? m : below(b, wide, m, get(a, wide, end));
        const int64_t k = wide ? merge(a, i, end, b, j, stop, 1, to) : merge(a, i, end, b, j, stop, 0, to);
        IN_TURN {    /* what was in both has left gaps */
            if (total < i + j) memmove((char *)to + total * size, (char *)to + (i + j) * size, (k - i - j) * size);
            total += k - i - j;
        }
    }
    return total;
}

INLINE void absent(const void *set, int64_t n, int wide, const int64_t *ranks, int64_t k, int64_t end,
                   int64_t *to) {
    int64_t low = 0, high = k < end ? n : 0;
    while (low < high) {    /* the members that have at most ranks[k] absentees before them */
        const int64_t middle = (low + high) / 2;
        if (get(set, wide, middle) - middle <= ranks[k]) low = middle + 1;
        else high = middle;
    }
    for (; k < end; k++) {
        while (low < n && get(set, wide, low) - low <= ranks[k]) low++;
        to[k] = ranks[k] + low;
    }
}

/* to[k] = the ranks[k]-th position that is not in the set; ranks ascend. */
EXPORT void regrow_absent(const void *set, int64_t n, const int64_t *ranks, int64_t m, int wide, int64_t *to,
                          int threads) {
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        if (wide) absent(set, n, 1, ranks, part(m, 0), part(m, 1), to);
        else absent(set, n, 0, ranks, part(m, 0), part(m, 1), to);
    }
}

#define CARRY(type)                                                                     \
    for (int64_t k = part(n, 0), end = part(n, 1); k < end; k++) {                      \
        const int32_t lost = source[k] >> 31;    /* all ones where there is none */     \
        const type kept = ((const type *)values)[source[k] & ~lost];                    \
        ((type *)to)[k] = (kept & (type)~lost) | (*(const type *)fresh & (type)lost);   \
    }

/* to[k] = values[source[k]], or *fresh where source[k] is -1; entries of 2, 4 or 8 bytes, of which there is one. */
EXPORT void regrow_carry(const void *values, const int32_t *source, int64_t n, int size, const void *fresh, void *to,
                         int threads) {
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads)
    {
        if (size == 8) CARRY(int64_t)
        else if (size == 4) CARRY(int32_t)
        else CARRY(int16_t)
    }
}

INLINE int64_t mark(uint64_t *bits, const void *at, int wide, int64_t n) {
    int64_t set = 0;
    for (int64_t k = 0; k < n; k++) {
        const uint64_t position = get(at, wide, k), word = bits[position / 64], bit = (uint64_t)1 << position % 64;
        set += !(word & bit);
        bits[position / 64] = word | bit;
    }
    return set;
}

/* Set the bits of these positions, in any order; returns how many were not set before. */
EXPORT int64_t regrow_mark(uint64_t *bits, const void *at, int64_t n, int wide) {
    return wide ? mark(bits, at, 1, n) : mark(bits, at, 0, n);
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
