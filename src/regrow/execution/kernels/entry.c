/* What Python calls: picks the instruction set and shares the rows among threads. */
#include <string.h>

#include "conv.h"
#include "dots.h"
#include "kernels.h"
#include "norms.h"
#include "outer.h"
#include "pool.h"
#include "sieve.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define WORTH 32768    /* multiplications below which a second thread costs more than it brings */

/* What serves one instruction set: float activations, bfloat16 ones; normalisation of both; masking; convolution;
   rows of dense gradients; filters of both; flagged vectors; pooling of both. */
typedef struct {
    const kernels *whole, *half;
    const norms *norms[2];
    keep *keep;
    const convolver *conv[2];
    const outer *outer;
    dots *dots[2];
    const sieve *sieve;
    const pool *pool[2];
} set;

#define PORTABLE {&regrow_norms_portable, &regrow_norms_portable_half}, regrow_keep_portable, {&regrow_conv_portable, &regrow_conv_portable_half}, &regrow_outer_portable, {regrow_dots_portable, 0}, &regrow_sieve_portable, {&regrow_pool_portable, &regrow_pool_portable_half}
#define AVX2 {&regrow_norms_avx2, &regrow_norms_avx2_half}, regrow_keep_avx2, {&regrow_conv_avx2, &regrow_conv_avx2_half}, &regrow_outer_avx2, {regrow_dots_avx2, 0}, &regrow_sieve_avx2, {&regrow_pool_avx2, &regrow_pool_avx2_half}
#define AVX512 {&regrow_norms_avx512, &regrow_norms_avx512_half}, regrow_keep_avx512, {&regrow_conv_avx512, &regrow_conv_avx512_half}, &regrow_outer_avx512, {regrow_dots_avx512, 0}, &regrow_sieve_avx512, {&regrow_pool_avx512, &regrow_pool_avx512_half}
#define AVX512BF16 {&regrow_norms_avx512, &regrow_norms_avx512_half}, regrow_keep_avx512, {&regrow_conv_avx512, &regrow_conv_avx512bf16_half}, &regrow_outer_avx512, {regrow_dots_avx512, regrow_dots_avx512bf16_half}, &regrow_sieve_avx512, {&regrow_pool_avx512, &regrow_pool_avx512_half}

static set chosen = {&regrow_portable, &regrow_portable_half, PORTABLE};

/* 0 portable, 1 AVX2 with FMA, 2 AVX-512, 3 AVX-512 with bfloat16; null where the processor, or the build, lacks it. */
static set find(int isa) {
#ifdef REGROW_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (isa == 1 && avx2) return (set){&regrow_avx2, &regrow_avx2_half, AVX2};
    if (isa == 2 && avx512) return (set){&regrow_avx512, &regrow_avx512_half, AVX512};
#ifdef REGROW_BF16
    if (isa == 3 && avx512 && __builtin_cpu_supports("avx512bf16"))
        return (set){&regrow_avx512, &regrow_avx512bf16_half, AVX512BF16};
#endif
#endif
    return isa == 0 ? (set){&regrow_portable, &regrow_portable_half, PORTABLE} : (set){0};
}

/* Raised, here and in native.py, when a function that Python calls changes. */
EXPORT int regrow_abi(void) { return 5; }

const convolver *regrow_convolver(int half) { return chosen.conv[half != 0]; }

const outer *regrow_outer(void) { return chosen.outer; }

dots *regrow_dots(int half) { return chosen.dots[half != 0]; }

const sieve *regrow_sieve(void) { return chosen.sieve; }

EXPORT int regrow_has(int isa) { return find(isa).whole != 0; }

EXPORT void regrow_use(int isa) {
    if (regrow_has(isa)) chosen = find(isa);
}

/* The first row that is not of the first `share` of `shares` equal parts of the work: an entry costs what a row does. */
static int64_t bound(const int32_t *pointers, int64_t rows, int share, int shares) {
    const int64_t goal = (pointers[rows] + rows) * share / shares;
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (pointers[middle] + middle < goal) low = middle + 1;
        else high = middle;
    }
    return low;
}

void *regrow_scratch(int64_t bytes) {
    static _Thread_local struct {
        void *at;
        int64_t bytes;
    } own;
    if (!own.at || own.bytes < bytes) {
        free(own.at);
        own.at = aligned_alloc(LINE, own.bytes = lines(bytes + 1));
    }
    return own.at;
}

static int product(const kernels *with, const matrix *w, const float *bias, batch x, void *y, int64_t n,
                   int threads) {
    int failed = 0;
#pragma omp parallel num_threads(w->pointers[w->rows] * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = bound(w->pointers, w->rows, me, all), last = bound(w->pointers, w->rows, me + 1, all);
        if (first < last) failed = with->product(w, first, last, bias, x, y, n);
    }
    return failed;
}

/* The matrix [out][width] of an index table (see index.py), and its transpose. */
static matrix by_rows(const int32_t *index, int narrow, int64_t out, int64_t width, int64_t nnz, const float *values) {
    if (!narrow) return (matrix){out, width, PLAIN, index, index + out + 1, 0, values};
    return (matrix){out, width, NARROW, index, index + out + 1 + width + 1 + nnz, 0, values};
}

static matrix by_columns(const int32_t *index, int narrow, int64_t out, int64_t width, int64_t nnz, const float *values) {
    if (narrow) return (matrix){width, out, NARROW_TURNED, index + out + 1, index + out + 1 + width + 1, index, values};
    const int32_t *pointers = index + out + 1 + nnz, *rows = pointers + width + 1;
    return (matrix){width, out, TURNED, pointers, rows, rows + nnz, values};
}

/* y [out][n] = w x + bias (or null); x [width][n] or, in rows, [n][width]. Activations are bfloat16 if `half`, else
   float; all else is float. */
EXPORT int regrow_product(const int32_t *index, int narrow, int64_t out, int64_t width, int64_t nnz,
                          const float *values, const float *bias, void *x, int rows, void *y, int half, int64_t n,
                          int threads) {
    const matrix w = by_rows(index, narrow, out, width, nnz, values);
    return product(half ? chosen.half : chosen.whole, &w, bias, (batch){x, rows}, y, n, threads);
}

/* Of y = w x + bias, from g and x, each in lanes or in rows: dx as x is, or in lanes without dw; dw [nnz]; db [out];
   each may be null. */
EXPORT int regrow_gradients(const int32_t *index, int narrow, int64_t out, int64_t width, int64_t nnz,
                            const float *values, void *g, int g_rows, void *x, int x_rows, void *dx, float *dw, float *db, int half, int64_t n,
                            int threads) {
    const kernels *with = half ? chosen.half : chosen.whole;
    const matrix w = by_columns(index, narrow, out, width, nnz, values);
    const batch grad = {g, g_rows}, input = {x, x_rows};
    int failed = dx && !dw ? product(with, &w, 0, grad, dx, n, threads) : 0;
#pragma omp parallel num_threads(nnz * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = dw ? bound(w.pointers, width, me, all) : 0;
        const int64_t last = dw ? bound(w.pointers, width, me + 1, all) : 0;
        const sums total = {db, out * me / all, out * (me + 1) / all};
        if (first < last || db) failed |= with->gradients(&w, first, last, grad, input, dw ? dx : 0, dw, total, n);
    }
    return failed;
}

/* Part `me` of `all` of `count` lanes or features; lanes in whole cache lines, so that no two threads share one. */
static extent part(extent e, int64_t count, int64_t grain, int me, int all) {
    const int64_t grains = (count + grain - 1) / grain, last = grains * (me + 1) / all * grain;
    e.first = grains * me / all * grain;
    e.last = last < count ? last : count;
    return e;
}

#define LANES part(e, n, 16, omp_get_thread_num(), omp_get_num_threads())
#define FEATURES part(e, features, 1, omp_get_thread_num(), omp_get_num_threads())

/* y [features][n] = (x - mean) / sqrt(var + eps) * weight + bias, with mean and var [n] of each lane over its features. */
EXPORT void regrow_layer_norm(const void *x, const float *weight, const float *bias, float eps, void *y, float *mean,
                              float *var, int half, int64_t features, int64_t n, int threads) {
    const norms *with = chosen.norms[half != 0];
    const extent e = {features, n, 0, 0};
    const affine a = {mean, var, weight, bias, eps};
#pragma omp parallel num_threads(features * n < WORTH ? 1 : threads)
    {
        with->layer_moments(LANES, x, mean, var);
#pragma omp barrier
        with->layer_apply(FEATURES, a, x, y);
    }
}

/* dx [features][n], dw and db [features] of regrow_layer_norm, from g [features][n]; room for 2 n sums. */
EXPORT void regrow_layer_norm_gradients(const void *g, const void *x, const float *mean, const float *var,
                                        const float *weight, float eps, float *sums, void *dx, float *dw, float *db,
                                        int half, int64_t features, int64_t n, int threads) {
    const norms *with = chosen.norms[half != 0];
    const extent e = {features, n, 0, 0};
    const affine a = {mean, var, weight, 0, eps};
#pragma omp parallel num_threads(features * n < WORTH ? 1 : threads)
    {
        with->layer_sums(LANES, a, g, x, sums);
#pragma omp barrier
        with->layer_gradients(FEATURES, a, g, x, sums, dx, dw, db);
    }
}

/* y [features][n] = (x - mean) / sqrt(var + eps) * weight + bias + add, no less than 0 if `relu`, with mean and var
   [features] of each feature over its lanes, or `given`; add may be null. */
EXPORT void regrow_batch_norm(const void *x, const void *add, const float *weight, const float *bias, float eps,
                              int relu, int given, void *y, float *mean, float *var, int half, int64_t features,
                              int64_t n, int threads) {
    const affine a = {0, 0, weight, bias, eps};
    const extent e = {features, n, 0, 0};
#pragma omp parallel num_threads(features * n < WORTH ? 1 : threads)
    chosen.norms[half != 0]->batch(FEATURES, a, given, x, add, relu, y, mean, var);
}

/* dx and dadd (or null) [features][n], dw and db [features] of regrow_batch_norm with mean and var of x; y may be null
   where nothing was added. */
EXPORT void regrow_batch_norm_gradients(const void *g, const void *x, const void *y, const float *mean,
                                        const float *var, const float *weight, const float *bias, float eps, int relu,
                                        void *dx, void *dadd, float *dw, float *db, int half, int64_t features,
                                        int64_t n, int threads) {
    const affine a = {mean, var, weight, bias, eps};
    const extent e = {features, n, 0, 0};
#pragma omp parallel num_threads(features * n < WORTH ? 1 : threads)
    chosen.norms[half != 0]->batch_gradients(FEATURES, a, g, x, y, relu, dx, dadd, dw, db);
}

/* y [n] = x sigmoid(beta x) */
EXPORT void regrow_swish(const void *x, float beta, void *y, int half, int64_t n, int threads) {
#pragma omp parallel num_threads(n < WORTH ? 1 : threads)
    {
        const extent mine = part((extent){0}, n, 64, omp_get_thread_num(), omp_get_num_threads());
        chosen.norms[half != 0]->swish(mine.first, mine.last, beta, x, y);
    }
}

/* dx [n] of regrow_swish, from g [n] */
EXPORT void regrow_swish_gradient(const void *g, const void *x, float beta, void *dx, int half, int64_t n, int threads) {
#pragma omp parallel num_threads(n < WORTH ? 1 : threads)
    {
        const extent mine = part((extent){0}, n, 64, omp_get_thread_num(), omp_get_num_threads());
        chosen.norms[half != 0]->swish_gradient(mine.first, mine.last, beta, g, x, dx);
    }
}

/* y, and unless it is null `which` (see pool.h), of x. */
EXPORT void regrow_max_pool(const shape *p, const void *x, void *y, uint8_t *which, int half, int threads) {
#pragma omp parallel num_threads(p->channels * p->in[0] * p->in[1] * p->n < WORTH ? 1 : threads)
    {
        const extent mine = part((extent){0}, p->channels, 1, omp_get_thread_num(), omp_get_num_threads());
        chosen.pool[half != 0]->max(p, mine.first, mine.last, x, y, which);
    }
}

/* dx of regrow_max_pool, from g */
EXPORT void regrow_max_pool_gradient(const shape *p, const void *g, const uint8_t *which, void *dx, int half,
                                     int threads) {
#pragma omp parallel num_threads(p->channels * p->in[0] * p->in[1] * p->n < WORTH ? 1 : threads)
    {
        const extent mine = part((extent){0}, p->channels, 1, omp_get_thread_num(), omp_get_num_threads());
        chosen.pool[half != 0]->max_gradient(p, mine.first, mine.last, g, which, dx);
    }
}

/* Bit i is byte i, 0 or 1, of 32. */
static uint32_t word(const uint8_t *active) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i += 8) {
        uint64_t eight;
        memcpy(&eight, active + i, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        bits |= (uint32_t)(eight * 0x0102040810204080 >> 56) << i;    /* from 8 i to 56 + i */
    }
    return bits;
}

/* bits [n / 32, rounded up]: bit i % 32 of bits[i / 32] is active[i], 0 or 1. */
EXPORT void regrow_pack(const uint8_t *active, int64_t n, uint32_t *bits) {
    uint8_t last[32] = {0};
    memcpy(last, active + n / 32 * 32, n % 32);
    for (int64_t i = 0; i < n / 32; i++) bits[i] = word(active + 32 * i);
    if (n % 32) bits[n / 32] = word(last);
}

/* at[i] = rest wherever bit i is not set. */
EXPORT void regrow_keep(float *at, const uint32_t *bits, int64_t n, float rest, int threads) {
    const int64_t words = (n + 31) / 32;
#pragma omp parallel num_threads(n < WORTH ? 1 : threads)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = words * me / all, last = words * (me + 1) / all, end = last < words ? 32 * last : n;
        chosen.keep(at + 32 * first, bits + first, end - 32 * first, rest);
    }
}
