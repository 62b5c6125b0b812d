/* The n highest of many floats, by the digits of their bits: no sort, no copy. */
#include <math.h>
#include <string.h>

#include "share.h"

#define DIGITS 8192
#define LEVELS 3
static const int shifts[LEVELS] = {19, 9, 0};    /* the first digit: sign, exponent and 4 bits of the mantissa */
#define INFINITE 0x7f800000

INLINE int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A number that orders as the score does: both zeros are one, a NaN is -infinity. */
INLINE int32_t key(float score) {
    const int32_t bits = bits_of(score), size = bits & INT32_MAX, sign = bits >> 31;
    return size > INFINITE ? ~INFINITE : ((size ^ sign) - sign);
}

/* The same for |x|, where a NaN is 0. */
INLINE int32_t key_of_size(float x) {
    const int32_t size = bits_of(x) & INT32_MAX;
    return size > INFINITE ? 0 : size;
}

/* to [n], ascending: where the n highest of `total` scores are; of equal ones the first. 0 < n < total. */
EXPORT void regrow_select(const float *score, int64_t total, int64_t n, int64_t *to, int threads) {
    int64_t higher = 0, written = 0, seen = 0, counts[DIGITS];
    uint32_t found = 0, known = 0;    /* of the n-th highest key, sign bit flipped: the digits found, and where they are */
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(total, 0), end = part(total, 1);
        for (int level = 0; level < LEVELS; level++) {
            const int shift = shifts[level];
            const uint32_t mask = known, wanted = found;
            int32_t mine[DIGITS] = {0};
#pragma omp single
            memset(counts, 0, sizeof counts);
            for (int64_t k = first; k < end; k++) {
                const uint32_t digits = (uint32_t)key(score[k]) ^ 0x80000000u;
                if ((digits & mask) == wanted) mine[digits >> shift & (DIGITS - 1)]++;
            }
            IN_TURN for (int digit = 0; digit < DIGITS; digit++) counts[digit] += mine[digit];
#pragma omp single
            {
                int digit = DIGITS - 1;
                while (higher + counts[digit] < n) higher += counts[digit--];
                found |= (uint32_t)digit << shift;
                known = ~(uint32_t)0 << shift;
            }
        }
        const int32_t lowest = (int32_t)(found ^ 0x80000000u);
        int64_t above = 0, equal = 0, place = 0, ties = 0, stop = 0;
        for (int64_t k = first; k < end; k++) {
            above += key(score[k]) > lowest;
            equal += key(score[k]) == lowest;
        }
        IN_TURN {
            const int64_t left = n - higher - seen;    /* ties that are still wanted */
            place = written;
            ties = left < equal ? left : equal;
            seen += ties;
            written += above + ties;
            stop = written;
        }
        for (int64_t k = first; place < stop; k++) {
            const int tie = (key(score[k]) == lowest) & (ties > 0);
            to[place] = k;
            place += (key(score[k]) > lowest) | tie;
            ties -= tie;
        }
    }
}

/* A bound that the sizes of at least n entries of `signal` exceed, and not many more; 0 < n <= total. */
EXPORT float regrow_floor(const float *signal, int64_t total, int64_t n, int threads) {
    int64_t counts[DIGITS] = {0};
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        int32_t mine[DIGITS] = {0};
        for (int64_t k = part(total, 0), end = part(total, 1); k < end; k++) mine[key_of_size(signal[k]) >> shifts[0]]++;
        IN_TURN for (int digit = 0; digit < DIGITS; digit++) counts[digit] += mine[digit];
    }
    int32_t digit = DIGITS - 1;
    for (int64_t higher = counts[digit]; higher < n; higher += counts[digit]) digit--;
    const int32_t bits = digit << shifts[0];
    float bound;
    memcpy(&bound, &bits, sizeof bound);
    return nextafterf(bound, -INFINITY);
}

#define CHUNK 16

/* The inactive entries of signal [k, end) whose size is above the bound, and how many they are. */
INLINE int64_t rivals(const float *signal, int64_t k, int64_t end, const void *active, int64_t n, int wide,
                      int32_t bound, int64_t *at, float *size) {
    int64_t low = below(active, wide, n, k), found = 0;
    while (k < end) {
        const int64_t stop = k + CHUNK < end ? k + CHUNK : end;
        int any = stop < k + CHUNK;
        if (!any)
            for (int i = 0; i < CHUNK; i++) any |= key_of_size(signal[k + i]) > bound;
        for (; any && k < stop; k++) {
            if (key_of_size(signal[k]) <= bound) continue;
            while (low < n && get(active, wide, low) < k) low++;
            if (low < n && get(active, wide, low) == k) continue;
            at[found] = k;
            size[found++] = isnan(signal[k]) ? 0 : fabsf(signal[k]);
        }
        k = stop;
    }
    return found;
}

/* The inactive entries of `signal` [total] whose size (0 for a NaN) is above the threshold: `at` [total] and `size`
   [total] begin with them. Returns how many they are. `active` ascends. */
EXPORT int64_t regrow_above(const float *signal, int64_t total, const void *active, int64_t n, int wide, float threshold,
                            int64_t *at, float *size, int threads) {
    const int32_t bound = threshold < 0 ? -1 : bits_of(threshold) & INT32_MAX;
    int64_t found = 0;
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(total, 0), end = part(total, 1);
        const int64_t mine = wide ? rivals(signal, first, end, active, n, 1, bound, at + first, size + first)
                                  : rivals(signal, first, end, active, n, 0, bound, at + first, size + first);
        IN_TURN {
            memmove(at + found, at + first, mine * sizeof *at);
            memmove(size + found, size + first, mine * sizeof *size);
            found += mine;
        }
    }
    return found;
}
