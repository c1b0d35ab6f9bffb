// Maxima for single cells: of vectors as they were stored, and of coded tokens. Included inside the
// namespace of a level.

#if defined(__GNUC__)
typedef float Sixteen __attribute__((vector_size(64)));
#else
struct Sixteen {
    float of[16];
    float &operator[](int i) { return of[i]; }
    void operator+=(const Sixteen &other) {
        for (int i = 0; i < 16; ++i) of[i] += other.of[i];
    }
};
inline Sixteen operator*(float factor, Sixteen values) {
    for (float &value : values.of) value *= factor;
    return values;
}
#endif

constexpr int kTogether = 4; // tokens, so that their sums do not wait for each other

// best[q] of `n` tokens' products with the query, each summed in the order of dimensions.
template <int G>
inline void take_exact(const float *const *rows, int n, int dim, const Sixteen *query, float *best) {
    Sixteen sums[kTogether][G] = {};
    for (int d = 0; d < dim; ++d)
        for (int t = 0; t < kTogether; ++t)
            for (int g = 0; g < G; ++g) sums[t][g] += rows[t][d] * query[d * G + g];
    for (int t = 0; t < n; ++t)
        for (int q = 0; q < G * kGroup; ++q) {
            const float value = sums[t][q / kGroup][q % kGroup];
            best[q] = value > best[q] ? value : best[q];
        }
}

// The maxima of one cell depend on the order of its tokens and dimensions alone, never on what else
// is asked for. `query` (dim, G), zeros beyond nq; `space` (kTogether, dim).
template <int G>
void exact_cell(const Vectors &vectors, int64_t begin, int64_t count, const Sixteen *query, float *space,
                float *best) {
    for (int q = 0; q < G * kGroup; ++q) best[q] = -INFINITY;
    for (int64_t t = begin, end = begin + count; t < end; t += kTogether) {
        const int n = static_cast<int>(end - t < kTogether ? end - t : kTogether);
        const float *rows[kTogether];
        for (int i = 0; i < kTogether; ++i)
            rows[i] = i < n ? row_of(vectors, t + i, space + i * vectors.dim) : rows[0];
        take_exact<G>(rows, n, vectors.dim, query, best);
    }
}

template <int G>
void exact_maxima_of(int threads, const Vectors &vectors, const Cells &cells, const float *query, int nq,
                     float *out) {
    Aligned<Sixteen> columns(static_cast<std::size_t>(vectors.dim) * G);
    for (int d = 0; d < vectors.dim; ++d)
        for (int q = 0; q < nq; ++q)
            columns.get()[d * G + q / kGroup][q % kGroup] = query[q * vectors.dim + d];
    const int64_t n_chunks = (cells.n + 15) / 16;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        std::vector<float> space(static_cast<std::size_t>(vectors.dim) * kTogether);
        alignas(64) float best[G * kGroup];
        for (int64_t k; chunks.next(k);)
            for (int64_t c = part(k, cells.n, n_chunks); c < part(k + 1, cells.n, n_chunks); ++c) {
                cells.check(c, vectors.n);
                exact_cell<G>(vectors, cells.begin[c], cells.count[c], columns.get(), space.data(), best);
                for (int q = 0; q < nq; ++q) out[c * nq + q] = best[q];
            }
    });
}

static void exact_maxima(int threads, const Vectors &vectors, const Cells &cells, const float *query,
                         int nq, float *out) {
    switch (padded(nq) / kGroup) {
    case 1: return exact_maxima_of<1>(threads, vectors, cells, query, nq, out);
    case 2: return exact_maxima_of<2>(threads, vectors, cells, query, nq, out);
    case 3: return exact_maxima_of<3>(threads, vectors, cells, query, nq, out);
    default: return exact_maxima_of<4>(threads, vectors, cells, query, nq, out);
    }
}

static void coded_maxima(int threads, const Codes &codes, const Book &book, const Cells &cells,
                         const Tokens &query, float *out) {
    const int nq = static_cast<int>(query.n);
    const Packed packed(query, 0, nq);
    const Expansion expansion(book.levels);
    const int64_t n_chunks = (cells.n + 63) / 64;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        Products work(codes.width);
        alignas(64) float best[kQueryTokens];
        for (int64_t k; chunks.next(k);)
            for (int64_t c = part(k, cells.n, n_chunks); c < part(k + 1, cells.n, n_chunks); ++c) {
                cells.check(c, codes.n);
                for (float &value : best) value = -INFINITY;
                take_coded(codes, book, cells.begin[c], cells.count[c], packed, expansion, query.scales,
                           nq, work, best);
                for (int q = 0; q < nq; ++q) out[c * nq + q] = best[q];
            }
    });
}
