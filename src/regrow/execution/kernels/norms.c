/* Plain loops over lanes, which compilers turn into vectors. Compiled for every instruction set, and with HALF for
   bfloat16 activations; all sums are float. Lanes are taken in blocks whose statistics stay in the first cache. */
#include "norms.h"

#include <math.h>
#include <string.h>

#define BLOCK 1024
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

#ifdef HALF
typedef uint16_t element;
static inline float get(element from) {
    const uint32_t wide = (uint32_t)from << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
/* Rounds to nearest, ties to even; a NaN stays one. */
static inline element put(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    return value == value ? (wide + 0x7fff + ((wide >> 16) & 1)) >> 16 : 0x7fc0;
}
#else
typedef float element;
static inline float get(element from) { return from; }
static inline element put(float value) { return value; }
#endif

static inline float scale(const float *weight, int64_t feature) { return weight ? weight[feature] : 1; }

/* By Welford's recurrence (1962), a feature at a time. */
static void layer_moments(extent e, const void *from, float *restrict mean, float *restrict var) {
    for (int64_t at = e.first; at < e.last; at += BLOCK) {
        const int64_t end = LEAST(at + BLOCK, e.last);
        for (int64_t i = at; i < end; i++) mean[i] = var[i] = 0;
        for (int64_t f = 0; f < e.features; f++) {
            const element *restrict x = (const element *)from + f * e.n;
            const float share = 1.0f / (f + 1);
            for (int64_t i = at; i < end; i++) {
                const float value = get(x[i]), off = value - mean[i];
                mean[i] += off * share;
                var[i] += off * (value - mean[i]);
            }
        }
        for (int64_t i = at; i < end; i++) var[i] /= e.features;
    }
}

static void layer_apply(extent e, affine a, const void *from, void *to) {
    float inverse[BLOCK];
    for (int64_t at = 0; at < e.n; at += BLOCK) {
        const int64_t lanes = LEAST(BLOCK, e.n - at);
        const float *restrict mean = a.mean + at;
        for (int64_t i = 0; i < lanes; i++) inverse[i] = 1 / sqrtf(a.var[at + i] + a.eps);
        for (int64_t f = e.first; f < e.last; f++) {
            const element *restrict x = (const element *)from + f * e.n + at;
            element *restrict y = (element *)to + f * e.n + at;
            const float w = scale(a.weight, f), b = a.bias ? a.bias[f] : 0;
            for (int64_t i = 0; i < lanes; i++) y[i] = put((get(x[i]) - mean[i]) * inverse[i] * w + b);
        }
    }
}

static void layer_sums(extent e, affine a, const void *by, const void *from, float *sums) {
    float *restrict plain = sums, *restrict weighted = sums + e.n;
    const float *restrict mean = a.mean;
    for (int64_t at = e.first; at < e.last; at += BLOCK) {
        const int64_t end = LEAST(at + BLOCK, e.last);
        for (int64_t i = at; i < end; i++) plain[i] = weighted[i] = 0;
        for (int64_t f = 0; f < e.features; f++) {
            const element *restrict g = (const element *)by + f * e.n, *restrict x = (const element *)from + f * e.n;
            const float w = scale(a.weight, f);
            for (int64_t i = at; i < end; i++) {
                const float part = get(g[i]) * w;
                plain[i] += part;
                weighted[i] += part * (get(x[i]) - mean[i]);
            }
        }
    }
}

/* dx = (g w - mean_f(g w) - z mean_f(g w z)) / sqrt(var + eps), with z the normalised x. */
static void layer_gradients(extent e, affine a, const void *by, const void *from, const float *sums, void *to,
                            float *dw, float *db) {
    float inverse[BLOCK], plain[BLOCK], weighted[BLOCK];
    for (int64_t f = e.first; f < e.last; f++) dw[f] = db[f] = 0;
    for (int64_t at = 0; at < e.n; at += BLOCK) {
        const int64_t lanes = LEAST(BLOCK, e.n - at);
        const float *restrict mean = a.mean + at;
        for (int64_t i = 0; i < lanes; i++) {
            inverse[i] = 1 / sqrtf(a.var[at + i] + a.eps);
            plain[i] = sums[at + i] / e.features;
            weighted[i] = sums[e.n + at + i] * inverse[i] / e.features;
        }
        for (int64_t f = e.first; f < e.last; f++) {
            const int64_t row = f * e.n + at;
            const element *restrict g = (const element *)by + row, *restrict x = (const element *)from + row;
            element *restrict dx = (element *)to + row;
            const float w = scale(a.weight, f);
            float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
            for (int64_t i = 0; i < lanes; i++) {
                const float there = get(g[i]), z = (get(x[i]) - mean[i]) * inverse[i];
                sum += there;
                product += there * z;
                dx[i] = put((there * w - plain[i] - z * weighted[i]) * inverse[i]);
            }
            db[f] += sum;
            dw[f] += product;
        }
    }
}

/* sum of (x - mean), or of its square, over a feature's lanes: blocks in float, their sum in double. */
static inline double total(const element *restrict x, int64_t n, float mean, int square) {
    double whole = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t end = LEAST(at + BLOCK, n);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = at; i < end; i++) {
            const float off = get(x[i]) - mean;
            sum += square ? off * off : off;
        }
        whole += sum;
    }
    return whole;
}

/* y = (x - m) w + b + r, and of that, if `relu`, what is positive. Without r: null. NaN stays NaN. */
static inline void apply(const element *restrict x, const element *restrict r, element *restrict y, int64_t n, float m,
                         float w, float b, int relu) {
    const float least = relu ? 0 : -INFINITY;
    if (r) {
        for (int64_t i = 0; i < n; i++) {
            const float value = (get(x[i]) - m) * w + b + get(r[i]);
            y[i] = put(value < least ? least : value);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            const float value = (get(x[i]) - m) * w + b;
            y[i] = put(value < least ? least : value);
        }
    }
}

static void batch(extent e, affine a, int given, const void *from, const void *add, int relu, void *to, float *mean,
                  float *var) {
    for (int64_t f = e.first; f < e.last; f++) {
        const element *x = (const element *)from + f * e.n, *r = add ? (const element *)add + f * e.n : 0;
        if (!given) {
            mean[f] = total(x, e.n, 0, 0) / e.n;
            var[f] = total(x, e.n, mean[f], 1) / e.n;
        }
        const float w = scale(a.weight, f) / sqrtf(var[f] + a.eps), b = a.bias ? a.bias[f] : 0;
        apply(x, r, (element *)to + f * e.n, e.n, mean[f], w, b, relu);
    }
}

/* How the gradient of y becomes that of the sum: it is it; where x says that y is positive; where y does. */
enum { ALL, BY_X, BY_Y };

static inline __attribute__((always_inline)) float kept(int by, element g, float x, float y) {
    return by != ALL && (by == BY_X ? x : y) <= 0 ? 0 : get(g);
}

/* dx = (g - mean_n(g) - z mean_n(g z)) w / sqrt(var + eps), with z the normalised x and g what is kept of y's gradient.
   dadd = g. */
static inline __attribute__((always_inline)) void batch_feature(int by, extent e, affine a, int64_t f, const void *grad,
                                                                const void *from, const void *out, void *to,
                                                                void *to_add, float *dw, float *db) {
    const element *restrict g = (const element *)grad + f * e.n, *restrict x = (const element *)from + f * e.n;
    const element *restrict y = by == BY_Y ? (const element *)out + f * e.n : x;
    element *restrict dx = (element *)to + f * e.n, *restrict dr = to_add ? (element *)to_add + f * e.n : 0;
    const float m = a.mean[f], inverse = 1 / sqrtf(a.var[f] + a.eps), w = scale(a.weight, f) / sqrtf(a.var[f] + a.eps);
    const float b = a.bias ? a.bias[f] : 0;
    double sum = 0, product = 0;
    for (int64_t at = 0; at < e.n; at += BLOCK) {
        const int64_t end = LEAST(at + BLOCK, e.n);
        float part = 0, weighted = 0;
#pragma omp simd reduction(+ : part, weighted)
        for (int64_t i = at; i < end; i++) {
            const float off = get(x[i]) - m, there = kept(by, g[i], off * w + b, get(y[i]));
            part += there;
            weighted += there * off;
        }
        if (dr)
            for (int64_t i = at; i < end; i++) dr[i] = put(kept(by, g[i], (get(x[i]) - m) * w + b, get(y[i])));
        sum += part;
        product += weighted;
    }
    db[f] = sum;
    dw[f] = product * inverse;
    const float plain = sum / e.n, steep = dw[f] * inverse / e.n;
    for (int64_t i = 0; i < e.n; i++) {
        const float off = get(x[i]) - m, there = kept(by, g[i], off * w + b, get(y[i]));
        dx[i] = put((there - plain - off * steep) * w);
    }
}

static void batch_gradients(extent e, affine a, const void *g, const void *x, const void *y, int relu, void *dx,
                            void *dadd, float *dw, float *db) {
    for (int64_t f = e.first; f < e.last; f++)
        if (!relu) batch_feature(ALL, e, a, f, g, x, y, dx, dadd, dw, db);
        else if (!y) batch_feature(BY_X, e, a, f, g, x, y, dx, dadd, dw, db);
        else batch_feature(BY_Y, e, a, f, g, x, y, dx, dadd, dw, db);
}

/* 1 / (1 + e^-t), to 3e-7 of itself where |t| < 87 and constant beyond. e^s = 2^n e^r, n the whole number next to
   s / ln 2: adding and taking away 1.5 2^23 rounds to it, and leaves it in the lowest bits; e^r as in Cephes (Moshier). */
static inline float sigmoid(float t) {
    const float most = t > 87 ? 87 : t, s = -(most < -87 ? -87 : most);
    const float round = 12582912, sum = s * 1.44269504f + round, n = sum - round;
    const float r = s - n * 0.693359375f + n * 2.12194440e-4f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    bits = (bits + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return 1 / (1 + power * (p * r * r + r + 1));
}

static void swish(int64_t first, int64_t last, float beta, const void *from, void *to) {
    const element *restrict x = from;
    element *restrict y = to;
    for (int64_t i = first; i < last; i++) y[i] = put(get(x[i]) * sigmoid(beta * get(x[i])));
}

static void swish_gradient(int64_t first, int64_t last, float beta, const void *by, const void *from, void *to) {
    const element *restrict g = by, *restrict x = from;
    element *restrict dx = to;
    for (int64_t i = first; i < last; i++) {
        const float t = beta * get(x[i]), share = sigmoid(t);
        dx[i] = put(get(g[i]) * share * (1 + t * (1 - share)));
    }
}

#define NAME_(isa) regrow_norms_##isa
#define NAME(isa) NAME_(isa)
const norms NAME(ISA) = {layer_moments, layer_apply, layer_sums, layer_gradients, batch, batch_gradients, swish,
                         swish_gradient};
