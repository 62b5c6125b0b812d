/* Sets of positions: ascending and distinct. What a function yields is said by the plain one it stands for, in
   core/positions.py. Where two random sets meet, no branch could be foreseen: the loops have none. */
#include <string.h>

#include "share.h"
#include "sieve.h"

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

/* Of an empty set there may be no address at all. */
INLINE void clear(uint8_t *flags, int64_t first, int64_t end) {
    if (first < end) memset(flags + first, 0, end - first);
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
        clear(stays, i[l], old_stop[l]);
        clear(known, k[l], stop[l]);
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

/* to = the entries of `from` [n] that are flagged, of 1, 2, 4 or 8 bytes. */
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

/* Where this thread's shares of a begin, those of b beside them, and where the last ones end. */
INLINE void cut(const void *a, int64_t n, const void *b, int64_t m, int wide, int64_t *i, int64_t *j) {
    const int64_t shares = omp_get_num_threads() * LANES;
    for (int l = 0; l <= LANES; l++) {
        const int64_t share = omp_get_thread_num() * LANES + l;
        i[l] = n * share / shares;
        j[l] = share == 0 ? 0 : share == shares || i[l] == n ? m : below(b, wide, m, get(a, wide, i[l]));
    }
}

#define FEW 16    /* times smaller is small */

/* to [n + m] = what is in either; returns how many. */
EXPORT int64_t regrow_union(const void *a, int64_t n, const void *b, int64_t m, int wide, void *to, int threads) {
    const int64_t size = wide ? 8 : 4;
    int64_t total = 0;
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        int64_t i[LANES + 1], j[LANES + 1], k[LANES];
        cut(a, n, b, m, wide, i, j);
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

/* Of disjoint sets; u and v, which belong to them, go along: as integers, which no compiler chooses from by a branch. */
INLINE void join_step(const void *a, const int32_t *u, int64_t *i, const void *b, const int32_t *v, int64_t *j, int wide,
                      void *to, int32_t *values) {
    const int64_t x = get(a, wide, *i), y = get(b, wide, *j), k = *i + *j;
    const int64_t first = x < y;
    const int32_t other = v[*j];
    put(to, wide, k, first ? x : y);
    values[k] = other ^ ((u[*i] ^ other) & -(int32_t)first);
    *i += first;
    *j += !first;
}

INLINE void join(const void *a, const int32_t *u, const int64_t *first, const void *b, const int32_t *v, const int64_t *second,
                 int wide, void *to, int32_t *values) {
    int64_t i[LANES], j[LANES];
    EACH_LANE i[l] = first[l], j[l] = second[l];
    for (int64_t left; (left = steps(i, first + 1, j, second + 1)) > 0;)
        for (; left > 0; left--) EACH_LANE join_step(a, u, &i[l], b, v, &j[l], wide, to, values);
    EACH_LANE {
        while (i[l] < first[l + 1] && j[l] < second[l + 1]) join_step(a, u, &i[l], b, v, &j[l], wide, to, values);
        for (; i[l] < first[l + 1]; i[l]++) put(to, wide, i[l] + j[l], get(a, wide, i[l])), values[i[l] + j[l]] = u[i[l]];
        for (; j[l] < second[l + 1]; j[l]++) put(to, wide, i[l] + j[l], get(b, wide, j[l])), values[i[l] + j[l]] = v[j[l]];
    }
}

/* to, values [n + m] = the disjoint sets a and b together, with u and v. */
EXPORT void regrow_joined(const void *a, const int32_t *u, int64_t n, const void *b, const int32_t *v, int64_t m, int wide,
                          void *to, int32_t *values, int threads) {
#pragma omp parallel num_threads(n + m < ENOUGH ? 1 : threads)
    {
        int64_t i[LANES + 1], j[LANES + 1];
        cut(a, n, b, m, wide, i, j);
        if (wide) join(a, u, i, b, v, j, 1, to, values);
        else join(a, u, i, b, v, j, 0, to, values);
    }
}

/* flags [n]: which values are in size not below the bound; returns how many. */
EXPORT int64_t regrow_reaching(const float *values, int64_t n, float bound, uint8_t *flags, int threads) {
    int64_t found = 0;
#pragma omp parallel num_threads(n < ENOUGH ? 1 : threads) reduction(+ : found)
    {
        const int64_t first = part(n, 0), end = part(n, 1);
        for (int64_t k = first; k < end; k++) flags[k] = !(__builtin_fabsf(values[k]) < bound);
        found = count(flags + first, end - first);
    }
    return found;
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
