/* The innermost loop of every gradient but those by pairs: one weight, one tile of lanes that registers hold. */
/* Adds value * g to dx, if `both`; returns the products of x and g, yet to be summed. */
INLINE vec gradients_step(const int R, const int both, float value, const vec *x, const element *g, vec *dx) {
    const vec v = spread(value);
    vec dot[2] = {spread(0), spread(0)};
    UNROLL for (int r = 0; r < R; r++) {
        const vec there = in_register(load(g + r * VW));
        if (both) dx[r] += v * there;
        dot[r % 2] += x[r] * there;
    }
    return dot[0] + dot[1];
}
