/* Vectors of VW floats, in the vector extensions that GCC and Clang share. */
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * VW)));
typedef int32_t ints __attribute__((vector_size(4 * VW)));
typedef float four __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));
typedef float many __attribute__((vector_size(4 * VW), aligned(4), may_alias));
INLINE vec spread(float s) { return s - (vec){0}; }
INLINE vec sums_at(const float *from) { return *(const many *)from; }

/* Activations: float, or bfloat16 which is a float's upper half. */
#ifdef HALF
#define turn regrow_turn2
typedef uint16_t element;
typedef uint32_t bits __attribute__((vector_size(4 * VW)));
typedef uint16_t loose __attribute__((vector_size(2 * VW), aligned(2), may_alias));
INLINE vec load(const element *from) { return (vec)(__builtin_convertvector(*(const loose *)from, bits) << 16); }
/* Rounds to nearest, ties to even; a NaN stays one. */
INLINE void store(element *to, vec v) {
    const bits b = (bits)v, nan = (bits)(v != v);
    const bits rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    *(loose *)to = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), loose);
}
#else
#define turn regrow_turn4
typedef float element;
typedef many loose;
INLINE vec load(const element *from) { return *(const loose *)from; }
INLINE void store(element *to, vec v) { *(loose *)to = v; }
#endif

/* Read once: GCC would load anew for each use, and these loops wait for loads. */
INLINE vec in_register(vec v) {
#if VW > 4
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* An address in one register: compilers would re-associate it into one addition per load. */
INLINE const element *lane(const element *base, int64_t offset) {
    base += offset;
    __asm__("" : "+r"(base));
    return base;
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t which __attribute__((vector_size(4 * VW)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (which){__VA_ARGS__})
#endif
/* In every group g of four: elements i and i + 1 of a and b in turn; and of a, then of b. */
#define IN_TURN(g, i) 4 * g + i, VW + 4 * g + i, 4 * g + i + 1, VW + 4 * g + i + 1
#define IN_PAIRS(g, i) 4 * g + i, 4 * g + i + 1, VW + 4 * g + i, VW + 4 * g + i + 1
#if VW == 16
#define GROUPS(F, i) F(0, i), F(1, i), F(2, i), F(3, i)
#elif VW == 8
#define GROUPS(F, i) F(0, i), F(1, i)
#else
#define GROUPS(F, i) F(0, i)
#endif

/* The sums of four vectors, each in the same order of additions. */
INLINE four sums_of(vec a, vec b, vec c, vec d) {
    const vec ab = SHUFFLE(a, b, GROUPS(IN_TURN, 0)) + SHUFFLE(a, b, GROUPS(IN_TURN, 2));
    const vec cd = SHUFFLE(c, d, GROUPS(IN_TURN, 0)) + SHUFFLE(c, d, GROUPS(IN_TURN, 2));
    const vec abcd = SHUFFLE(ab, cd, GROUPS(IN_PAIRS, 0)) + SHUFFLE(ab, cd, GROUPS(IN_PAIRS, 2));
#if VW == 16
    const union { vec whole; eight half[2]; } u = {abcd};
    const union { eight whole; four half[2]; } h = {u.half[0] + u.half[1]};
    return h.half[0] + h.half[1];
#elif VW == 8
    const union { vec whole; four half[2]; } h = {abcd};
    return h.half[0] + h.half[1];
#else
    return abcd;
#endif
}

INLINE float sum_of(vec v) {
    const vec zero = {0};
    return sums_of(v, zero, zero, zero)[0];
}

#define CHUNK 128    /* features whose lanes stay in the cache while they are copied, read, written, copied back */

/* The lanes of feature f, at + f * apart. */
typedef struct {
    element *at;
    int64_t apart;
} panel;

/* Lanes at .. at + lanes of n, in a tile of `wide`. */
typedef struct {
    int64_t n, at, lanes, wide;
} span;

INLINE span span_of(int64_t n, int64_t at, int64_t vector, int64_t most) {
    const int64_t lanes = n - at < most ? n - at : most;
    return (span){n, at, lanes, (lanes + vector - 1) / vector * vector};
}

/* Elements of room that a panel of so many features needs. */
INLINE int64_t room_for(batch x, int64_t features, int64_t n, int64_t vector, int64_t most) {
    return x.rows || n % vector ? features * span_of(n, 0, vector, most).wide : 0;
}

INLINE int as_it_is(batch x, span s) { return !x.rows && s.lanes == s.wide; }

/* Where the lanes of features first .. last are read or written: in place if they can be, else in `room`. */
INLINE panel place(batch x, span s, int64_t first, element *room) {
    return as_it_is(x, s) ? (panel){(element *)x.at + s.at, s.n} : (panel){room - first * s.wide, s.wide};
}

/* The lanes of features first .. last, filled up with zeros. */
INLINE panel take(batch x, int64_t features, span s, int64_t first, int64_t last, element *room) {
    const element *from = x.at;
    const panel to = place(x, s, first, room);
    if (as_it_is(x, s)) return to;
    if (s.lanes < s.wide) memset(room, 0, (last - first) * s.wide * sizeof *room);
    if (x.rows) turn(from + s.at * features + first, s.lanes, last - first, features, room, s.wide);
    else
        for (int64_t f = first; f < last; f++)
            memcpy(to.at + f * s.wide, from + f * s.n + s.at, s.lanes * sizeof *from);
    return to;
}

/* To their place, from where `place` had them written. */
INLINE void give(batch y, int64_t features, span s, int64_t first, int64_t last, panel from) {
    element *to = y.at;
    if (as_it_is(y, s)) return;
    if (y.rows) turn(from.at + first * s.wide, last - first, s.lanes, s.wide, to + s.at * features + first, features);
    else
        for (int64_t f = first; f < last; f++)
            memcpy(to + f * s.n + s.at, from.at + f * s.wide, s.lanes * sizeof *to);
}
