// Maxima of similarities of eight-bit tokens. Included inside the namespace of a level.

constexpr int kTile = 32; // tokens whose products are taken before they are used

// best[q] = max(best[q], products[q] * scale)
inline void take_products(const int32_t *__restrict products, float scale, int n16,
                          float *__restrict best) {
#if defined(MMR_AVX512)
    const __m512 scales = _mm512_set1_ps(scale);
    for (int q = 0; q < n16; q += 16) {
        const __m512 sims = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(products + q)), scales);
        _mm512_storeu_ps(best + q, _mm512_max_ps(sims, _mm512_loadu_ps(best + q)));
    }
#else
    for (int q = 0; q < n16; ++q) {
        const float value = static_cast<float>(products[q]) * scale;
        best[q] = value > best[q] ? value : best[q];
    }
#endif
}

// Products of tiles of tokens with the tokens of one query.
class Products {
  public:
    explicit Products(int width)
        : lanes_(static_cast<std::size_t>(kTile) * width), out_(kTile * kQueryTokens) {}

    const int32_t *of(const int8_t *tokens, int64_t n, const Packed &query) {
        fetch(tokens + n * query.width, n * query.width);
        prepare(tokens, n * query.width, lanes_.get());
        return of_lanes(n, query);
    }
    const int32_t *of_lanes(int64_t n, const Packed &query) {
        products(lanes_.get(), n, query, out_.get());
        return out_.get();
    }
    Lane *lanes() { return lanes_.get(); }

  private:
    // Asks for the bytes that are likely to be read next; it is no matter whether they exist.
    static void fetch(const int8_t *from, int64_t n) {
#if defined(__GNUC__)
        for (int64_t i = 0; i < n; i += 64) __builtin_prefetch(from + i);
#else
        (void)from, (void)n;
#endif
    }

    Aligned<Lane> lanes_;
    Aligned<int32_t> out_;
};

// best[q] of tokens [begin, begin + count) without the query's scales, which are not negative.
inline void take_tokens(const Tokens &tokens, int64_t begin, int64_t count, const Packed &query,
                        Products &work, float *best) {
    const int n16 = query.groups * kGroup;
    for (int64_t t = begin, end = begin + count; t < end; t += kTile) {
        const int64_t n = end - t < kTile ? end - t : kTile;
        const int32_t *found = work.of(tokens.values + t * tokens.width, n, query);
        for (int64_t i = 0; i < n; ++i) take_products(found + i * n16, tokens.scales[t + i], n16, best);
    }
}

struct TokenInputs {
    TokenInputs(const Tokens *tokens_, const Tokens *queries_, const Rule &rule_)
        : tokens(tokens_), queries(queries_), rule(rule_), packed(kModalities) {
        for (int m = 0; m < rule.n_modalities; ++m)
            if (tokens[m].values && queries[m].values) packed[m] = Packed(queries[m], 0, rule.nq);
    }
    const Tokens *tokens;
    const Tokens *queries;
    const Rule &rule;
    std::vector<Packed> packed;
};

class TokenScan {
  public:
    typedef Maxima Best;

    explicit TokenScan(const TokenInputs &inputs)
        : n_modalities(inputs.rule.n_modalities), n16(padded(inputs.rule.nq)), inputs_(inputs),
          work_(kWidth) {
        for (int m = 0; m < n_modalities; ++m) {
            used[m] = inputs.packed[m].groups > 0 && inputs.rule.weights[m] > 0;
            n_tokens[m] = inputs.tokens[m].n;
        }
    }

    void cell(int m, int64_t begin, int64_t count, Maxima &best) {
        take_tokens(inputs_.tokens[m], begin, count, inputs_.packed[m], work_,
                    best.row(m, inputs_.rule.nq, n16));
    }

    float finish(const Maxima &best) const {
        Maxima scaled;
        scaled.present = best.present;
        for (int m = 0; m < n_modalities; ++m) {
            if (!(best.present >> m & 1)) continue;
            const float *scales = inputs_.queries[m].scales;
            for (int q = 0, nq = inputs_.rule.nq; q < nq; ++q) scaled.of[m][q] = best.of[m][q] * scales[q];
        }
        return score_of(scaled, inputs_.rule, n16);
    }

    const int n_modalities;
    const int n16;
    bool used[kModalities];
    int64_t n_tokens[kModalities];

  private:
    const TokenInputs &inputs_;
    Products work_;
};

static void score_tokens(int threads, const Layout &layout, const Choice &choice,
                         const Tokens *tokens, const Tokens *queries, const Rule &rule, float *out) {
    const TokenInputs inputs(tokens, queries, rule);
    score_documents<TokenScan>(threads, layout, choice, rule.by_video, inputs, out);
}

inline void scale_products(const int32_t *__restrict products, float scale,
                           const float *__restrict scales, int64_t n, float *__restrict out) {
    for (int64_t q = 0; q < n; ++q) out[q] = static_cast<float>(products[q]) * scale * scales[q];
}

inline void dots_part(const Tokens &tokens, const Tokens &query, const Packed &packed, int64_t first,
                      int64_t begin, int64_t end, Products &work, float *out) {
    const int n16 = packed.groups * kGroup;
    const int64_t nq = query.n, n_columns = nq - first < kQueryTokens ? nq - first : kQueryTokens;
    const float *scales = query.scales + first;
    for (int64_t t = begin; t < end; t += kTile) {
        const int64_t n = end - t < kTile ? end - t : kTile;
        const int32_t *found = work.of(tokens.values + t * tokens.width, n, packed);
        for (int64_t i = 0; i < n; ++i) {
            scale_products(found + i * n16, tokens.scales[t + i], scales, n_columns,
                           out + (t + i) * nq + first);
        }
    }
}

constexpr int64_t kTokensOfChunk = 4096;

inline std::vector<Packed> packed_blocks(const Tokens &query, int64_t block) {
    std::vector<Packed> packed;
    for (int64_t first = 0; first < query.n; first += block)
        packed.emplace_back(query, first, query.n - first < block ? query.n - first : block);
    return packed;
}

static void dots(int threads, const Tokens &tokens, const Tokens &query, float *out) {
    const std::vector<Packed> packed = packed_blocks(query, kQueryTokens);
    const int64_t n_chunks = (tokens.n + kTokensOfChunk - 1) / kTokensOfChunk;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        Products work(tokens.width);
        for (int64_t c; chunks.next(c);)
            for (std::size_t b = 0; b < packed.size(); ++b)
                dots_part(tokens, query, packed[b], static_cast<int64_t>(b) * kQueryTokens,
                          part(c, tokens.n, n_chunks), part(c + 1, tokens.n, n_chunks), work, out);
    });
}

inline void maxima_of_cell(const Tokens &tokens, int64_t begin, int64_t count, const Tokens &query,
                           const std::vector<Packed> &packed, Products &work, float *out) {
    alignas(64) float best[kQueryTokens];
    for (std::size_t b = 0; b < packed.size(); ++b) {
        const int64_t first = static_cast<int64_t>(b) * kQueryTokens;
        for (float &value : best) value = -INFINITY;
        take_tokens(tokens, begin, count, packed[b], work, best);
        for (int64_t q = first; q < query.n && q < first + kQueryTokens; ++q)
            out[q] = count ? best[q - first] * query.scales[q] : -INFINITY;
    }
}

static void maxima(int threads, const Tokens &tokens, const Cells &cells, const Tokens &query,
                   float *out) {
    const std::vector<Packed> packed = packed_blocks(query, kQueryTokens);
    const int64_t n_chunks = (cells.n + 255) / 256;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        Products work(tokens.width);
        for (int64_t k; chunks.next(k);)
            for (int64_t c = part(k, cells.n, n_chunks); c < part(k + 1, cells.n, n_chunks); ++c) {
                cells.check(c, tokens.n);
                maxima_of_cell(tokens, cells.begin[c], cells.count[c], query, packed, work,
                               out + c * query.n);
            }
    });
}
