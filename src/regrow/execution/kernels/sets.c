/* Sets of positions: ascending and distinct. What a function yields is said by the plain one it stands for, in
   core/positions.py.

   Where two random sets meet, no branch could be foreseen: the loops have none. What then takes time is that a step
   waits for the one before; so a thread goes through LANES shares of its work at once, a step of each in turn. */
#include <stdlib.h>
#include <string.h>

#include "share.h"
#include "sieve.h"

#define LANES 4
#define EACH_LANE for (int l = 0; l < LANES; l++)

/* Steps that every share has room for, as none moves it by more than one place in either set. */
INLINE int64_t steps(const int64_t *i, const int64_t *end, const int64_t *k, const int64_t *stop) {
    int64_t least = INT64_MAX;
    EACH_LANE {
        if (end[l] - i[l] < least) least = end[l] - i[l];
        if (stop[l] - k[l] < least) least = stop[l] - k[l];
    }
    return least;
}

/* How many of them are set. */
static int64_t count(const uint8_t *flags, int64_t n) {
    int64_t total = 0;
    for (int64_t k = 0; k < n;) {
        uint64_t bytes = 0;
        for (int run = 0; run < 255 && k + 8 <= n; run++, k += 8) {
            uint64_t eight;
            memcpy(&eight, flags + k, 8);
            bytes += eight;
        }
        for (int byte = 0; byte < 64; byte += 8) total += bytes >> byte & 255;
        for (; k + 8 > n && k < n; k++) total += flags[k];
    }
    return total;
}

/* Does a position of the one set lie in the other? Said of the lower one, or both. */
INLINE void match_step(const void *old, const void *fresh, int wide, int64_t *i, int64_t *k, uint8_t *stays,
                          uint8_t *known) {
    const int64_t a = get(old, wide, *i), b = get(fresh, wide, *k);
    const int both = a == b;
    stays[*i] = both;
    known[*k] = both;
    *i += a <= b;
    *k += b <= a;
}

INLINE void match(const void *old, int64_t n, const void *fresh, int64_t m, int wide, uint8_t *stays, uint8_t *known) {
    const int64_t shares = omp_get_num_threads() * LANES;
    int64_t i[LANES], k[LANES], old_stop[LANES], stop[LANES];
    EACH_LANE {
        const int64_t share = omp_get_thread_num() * LANES + l, next = share + 1;
        k[l] = m * share / shares;
        stop[l] = m * next / shares;
        i[l] = share ? below(old, wide, n, k[l] < m ? get(fresh, wide, k[l]) : INT64_MAX) : 0;
        old_stop[l] = next < shares ? below(old, wide, n, stop[l] < m ? get(fresh, wide, stop[l]) : INT64_MAX) : n;
    }
    for (int64_t left; (left = steps(i, old_stop, k, stop)) > 0;)
        for (; left > 0; left--) EACH_LANE match_step(old, fresh, wide, &i[l], &k[l], stays, known);
    EACH_LANE {
        while (i[l] < old_stop[l] && k[l] < stop[l]) match_step(old, fresh, wide, &i[l], &k[l], stays, known);
        memset(stays + i[l], 0, old_stop[l] - i[l]);
        memset(known + k[l], 0, stop[l] - k[l]);
    }
}

/* stays [n]: which of `old` are in `fresh`; known [m]: which of `fresh` are in `old`. Returns how many are in both. */
EXPORT int64_t regrow_match(const void *old, int64_t n, const void *fresh, int64_t m, int wide, uint8_t *stays,
                            uint8_t *known, int threads) {
    int64_t found = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads) reduction(+ : found)
    {
        if (wide) match(old, n, fresh, m, 1, stays, known);
        else match(old, n, fresh, m, 0, stays, known);
        found = count(known + part(m, 0), part(m, 1) - part(m, 0));
    }
    return found;
}

/* What the threads before this one have counted, of `mine` each; all of them call it. */
#define BEFORE(total, before, mine) \
    IN_TURN {                       \
        before = total;             \
        total += mine;              \
    }

/* This thread's share of: to = the entries of `from` [n] that are flagged. */
static void keep(const char *from, const uint8_t *flags, int64_t n, int size, char *to, int64_t *total) {
    const int64_t first = part(n, 0), mine = count(flags + first, part(n, 1) - first);
    int64_t before = 0;
    BEFORE(*total, before, mine)
    regrow_sieve()->only(from + first * size, flags + first, mine, size, to + before * size);
}

/* And of: to [n] = the next of `from` where flagged, else *rest. */
static void spread(const char *from, const uint8_t *flags, int64_t n, int size, const void *rest, char *to, int64_t *total) {
    const int64_t first = part(n, 0), end = part(n, 1), mine = count(flags + first, end - first);
    int64_t before = 0;
    BEFORE(*total, before, mine)
    regrow_sieve()->spread(from + before * size, flags + first, end - first, size, rest, to + first * size);
}

/* to = the entries of `from` [n] that are flagged, of 2, 4 or 8 bytes. */
EXPORT void regrow_only(const void *from, const uint8_t *flags, int64_t n, int size, void *to, int threads) {
    int64_t total = 0;
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads)
    keep(from, flags, n, size, to, &total);
}

/* to [m], which may be `from` [n] = those of its entries that stay, one after another where one was known, else *fresh.
   Works in room for them and 64 bytes. */
EXPORT void regrow_carry(const void *from, const uint8_t *stays, int64_t n, const uint8_t *known, int64_t m, int size,
                         const void *fresh, void *to, void *room, int threads) {
    int64_t kept = 0, taken = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        keep(from, stays, n, size, room, &kept);
#pragma omp barrier
        spread(room, known, m, size, fresh, to, &taken);
    }
}

INLINE void merge_step(const void *a, int64_t *i, const void *b, int64_t *j, int wide, void *to, int64_t *k) {
    const int64_t x = get(a, wide, *i), y = get(b, wide, *j);
    put(to, wide, (*k)++, x < y ? x : y);
    *i += x <= y;
    *j += y <= x;
}

/* Of LANES shares of a, beginning at i[0], i[1], ..., and what of b lies there: the union of each, to [i + j] on.
   Then k is where they end. */
INLINE void merge(const void *a, const int64_t *first, const void *b, const int64_t *second, int wide, void *to,
                  int64_t *k) {
    int64_t i[LANES], j[LANES];
    EACH_LANE {
        i[l] = first[l];
        j[l] = second[l];
        k[l] = i[l] + j[l];
    }
    for (int64_t left; (left = steps(i, first + 1, j, second + 1)) > 0;)
        for (; left > 0; left--) EACH_LANE merge_step(a, &i[l], b, &j[l], wide, to, &k[l]);
    EACH_LANE {
        while (i[l] < first[l + 1] && j[l] < second[l + 1]) merge_step(a, &i[l], b, &j[l], wide, to, &k[l]);
        while (i[l] < first[l + 1]) put(to, wide, k[l]++, get(a, wide, i[l]++));
        while (j[l] < second[l + 1]) put(to, wide, k[l]++, get(b, wide, j[l]++));
    }
}

/* The same where b is small: what lies between two of its members is copied as a whole. */
INLINE void insert(const void *a, const int64_t *first, const void *b, const int64_t *second, int wide, void *to,
                   int64_t *k) {
    const int64_t size = wide ? 8 : 4;
    EACH_LANE {
        int64_t i = first[l], j = second[l];
        k[l] = i + j;
        while (i < first[l + 1] || j < second[l + 1]) {
            int64_t stop = first[l + 1], step = 1;
            if (j < second[l + 1]) {
                const int64_t next = get(b, wide, j);
                while (i + step < stop && get(a, wide, i + step) < next) step *= 2;
                const int64_t near = i + step / 2, far = i + step < stop ? i + step : stop;
                stop = i < far ? near + below((const char *)a + near * size, wide, far - near, next) : i;
            }
            memcpy((char *)to + k[l] * size, (const char *)a + i * size, (stop - i) * size);
            k[l] += stop - i;
            i = stop;
            if (j < second[l + 1]) {
                const int64_t next = get(b, wide, j++);
                put(to, wide, k[l]++, next);
                i += i < first[l + 1] && get(a, wide, i) == next;
            }
        }
    }
}

#define FEW 16    /* times smaller is small */

/* to [n + m] = what is in either; returns how many. */
EXPORT int64_t regrow_union(const void *a, int64_t n, const void *b, int64_t m, int wide, void *to, int threads) {
    const int64_t size = wide ? 8 : 4;
    int64_t total = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        const int64_t shares = omp_get_num_threads() * LANES;
        int64_t i[LANES + 1], j[LANES + 1], k[LANES];
        for (int l = 0; l <= LANES; l++) {
            const int64_t share = omp_get_thread_num() * LANES + l;
            i[l] = n * share / shares;
            j[l] = share == 0 ? 0 : share == shares || i[l] == n ? m : below(b, wide, m, get(a, wide, i[l]));
        }
        if (m < n / FEW && wide) insert(a, i, b, j, 1, to, k);
        else if (m < n / FEW) insert(a, i, b, j, 0, to, k);
        else if (wide) merge(a, i, b, j, 1, to, k);
        else merge(a, i, b, j, 0, to, k);
        IN_TURN EACH_LANE {    /* what was in both has left gaps */
            const int64_t start = i[l] + j[l], count = k[l] - start;
            if (total < start) memmove((char *)to + total * size, (char *)to + start * size, count * size);
            total += count;
        }
    }
    return total;
}

INLINE void absent_step(const void *set, int wide, int64_t *low, const void *ranks, int far, int64_t *k, void *to) {
    const int64_t rank = get(ranks, far, *k);
    const int found = get(set, wide, *low) - *low > rank;
    put(to, far, *k, rank + *low);
    *k += found;
    *low += !found;
}

INLINE void absent(const void *set, int64_t n, int wide, const void *ranks, int64_t first, int64_t end, int far, void *to) {
    int64_t low[LANES], last[LANES], k[LANES], stop[LANES];
    EACH_LANE {
        k[l] = first + (end - first) * l / LANES;
        stop[l] = first + (end - first) * (l + 1) / LANES;
        low[l] = 0;
        last[l] = n;
        for (int64_t high = k[l] < stop[l] ? n : 0; low[l] < high;) {    /* members before ranks[k] */
            const int64_t middle = (low[l] + high) / 2;
            if (get(set, wide, middle) - middle <= get(ranks, far, k[l])) low[l] = middle + 1;
            else high = middle;
        }
    }
    for (int64_t left; (left = steps(low, last, k, stop)) > 0;)
        for (; left > 0; left--) EACH_LANE absent_step(set, wide, &low[l], ranks, far, &k[l], to);
    EACH_LANE {
        while (low[l] < n && k[l] < stop[l]) absent_step(set, wide, &low[l], ranks, far, &k[l], to);
        for (; k[l] < stop[l]; k[l]++) put(to, far, k[l], get(ranks, far, k[l]) + n);
    }
}

/* to[k] = the ranks[k]-th position that is not in the set; ranks ascend, and are int64 if `far`. */
EXPORT void regrow_absent(const void *set, int64_t n, const void *ranks, int64_t m, int wide, int far, void *to,
                          int threads) {
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(m, 0), end = part(m, 1);
        if (!far && !wide) absent(set, n, 0, ranks, first, end, 0, to);
        else if (!wide) absent(set, n, 0, ranks, first, end, 1, to);
        else absent(set, n, 1, ranks, first, end, far, to);
    }
}

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
