// Maxima for single cells: of vectors as they were stored, and of coded tokens. Included inside the
// namespace of a level.

// out[c * nq + q] of each cell, in the order of its tokens and dimensions alone, so that a result
// never depends on what else is asked for. `query` (dim, G * 16), zeros beyond nq.
template <int G>
void exact_cell(const Vectors &vectors, int64_t begin, int64_t count, const float *query, float *space,
                float *best) {
    constexpr int n16 = G * kGroup;
    for (int q = 0; q < n16; ++q) best[q] = -INFINITY;
    for (int64_t t = begin; t < begin + count; ++t) {
        const float *row = row_of(vectors, t, space);
        float sums[n16] = {};
        for (int d = 0; d < vectors.dim; ++d)
            for (int q = 0; q < n16; ++q) sums[q] += row[d] * query[d * n16 + q];
        for (int q = 0; q < n16; ++q) best[q] = sums[q] > best[q] ? sums[q] : best[q];
    }
}

template <int G>
void exact_maxima_of(int threads, const Vectors &vectors, const Cells &cells, const float *query, int nq,
                     float *out) {
    Aligned<float> columns(static_cast<std::size_t>(vectors.dim) * G * kGroup);
    for (int d = 0; d < vectors.dim; ++d)
        for (int q = 0; q < nq; ++q) columns.get()[d * G * kGroup + q] = query[q * vectors.dim + d];
    const int64_t n_chunks = (cells.n + 15) / 16;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        std::vector<float> space(static_cast<std::size_t>(vectors.dim));
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
