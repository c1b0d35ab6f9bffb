// Maxima over coded tokens: bytes of centroids, or similarities from residuals. Included inside the
// namespace of a level.

struct CodeInputs {
    const Codes *codes;
    const Tables &tables;
    const Rule &rule;
};

// One row of bytes for all modalities (N = 1), or one for each.
template <int G, int N> struct ByteMaxima {
    Row<G> rows[N];
    uint32_t present;

    template <class Scan> void clear(const Scan &) {
        present = 0;
        for (Row<G> &row : rows) row.clear();
    }

    template <class Scan> void copy(const ByteMaxima &other, const Scan &) { *this = other; }
};

template <int G, int N> class CodeScan {
  public:
    typedef ByteMaxima<G, N> Best;

    explicit CodeScan(const CodeInputs &inputs)
        : n_modalities(inputs.rule.n_modalities), inputs_(inputs) {
        const Rule &rule = inputs.rule;
        for (int m = 0; m < n_modalities; ++m) {
            used[m] = inputs.codes[m].centroid && inputs.tables.of[m].n > 0 && rule.weights[m] > 0;
            n_tokens[m] = inputs.codes[m].n;
            floor_[m] = 0;
            for (int q = 0; q < rule.nq; ++q) floor_[m] += inputs.tables.floor[m * rule.nq + q];
        }
    }

    void cell(int m, int64_t begin, int64_t count, Best &best) {
        const uint16_t *code = inputs_.codes[m].centroid + begin;
        const Table &table = inputs_.tables.of[m];
        uint32_t beyond = 0;
        Row<G> row = best.rows[N == 1 ? 0 : m];
        // Taking a token twice changes nothing, so the last step may overlap the one before: cells of
        // most sizes then take few steps of one size, which the processor foresees better.
        if (count >= 8) {
            for (int64_t i = 0; i < count - 8; i += 8) beyond |= take<8>(code + i, table, row);
            beyond |= take<8>(code + count - 8, table, row);
        } else if (count >= 4) {
            beyond |= take<4>(code, table, row);
            beyond |= take<4>(code + count - 4, table, row);
        } else {
            for (int64_t i = 0; i < count; ++i) beyond |= take<1>(code + i, table, row);
        }
        if (beyond) throw Invalid("codes: a centroid beyond the table");
        best.rows[N == 1 ? 0 : m] = row;
        best.present |= 1u << m;
    }

    float finish(const Best &best) const {
        if (N == 1) {
            int m = 0; // the floors of all modalities that take part are the same
            while (!(best.present >> m & 1)) ++m;
            return mean(best.rows[0], m);
        }
        Means means;
        for (int m = 0; m < n_modalities; ++m)
            if (best.present >> m & 1)
                means.add(mean(best.rows[m], m) / inputs_.rule.weights[m], inputs_.rule.weights[m]);
        return means.score(inputs_.rule.how);
    }

    const int n_modalities;
    bool used[kModalities];
    int64_t n_tokens[kModalities];

  private:
    // Takes in n tokens; not 0 when a centroid lies beyond the table.
    template <int n> static uint32_t take(const uint16_t *code, const Table &table, Row<G> &row) {
        const uint32_t last = static_cast<uint32_t>(table.n - 1);
        uint32_t beyond = 0;
        for (int i = 0; i < n; ++i) {
            const uint32_t c = code[i] < last ? code[i] : last;
            beyond |= c ^ code[i];
            row.larger(table.values + std::size_t{c} * (G * 16));
        }
        return beyond;
    }

    float mean(const Row<G> &row, int m) const {
        return (floor_[m] + inputs_.tables.step * static_cast<float>(row.sum())) /
               static_cast<float>(inputs_.rule.nq);
    }

    const CodeInputs &inputs_;
    float floor_[kModalities];
};

template <int G>
void score_codes_of(int threads, const Layout &layout, const Choice &choice,
                    const CodeInputs &inputs, float *out) {
    const bool by_video = inputs.rule.by_video;
    if (inputs.rule.how == kTokenMax)
        score_documents<CodeScan<G, 1>>(threads, layout, choice, by_video, inputs, out);
    else
        score_documents<CodeScan<G, kModalities>>(threads, layout, choice, by_video, inputs, out);
}

static void score_codes(int threads, const Layout &layout, const Choice &choice, const Codes *codes,
                        const Tables &tables, const Rule &rule, float *out) {
    const CodeInputs inputs{codes, tables, rule};
    switch (padded(rule.nq) / kGroup) {
    case 1: return score_codes_of<1>(threads, layout, choice, inputs, out);
    case 2: return score_codes_of<2>(threads, layout, choice, inputs, out);
    case 3: return score_codes_of<3>(threads, layout, choice, inputs, out);
    default: return score_codes_of<4>(threads, layout, choice, inputs, out);
    }
}

// The four prepared levels that a byte of codes stands for.
class Expansion {
  public:
    explicit Expansion(const int8_t *levels) {
        for (int byte = 0; byte < 256; ++byte)
            for (int j = 0; j < 4; ++j) of_[byte][j] = prepared(levels[byte >> (2 * j) & 3]);
    }
    void expand(const uint8_t *from, int64_t n, Lane *to) const {
        int64_t i = 0;
#if defined(MMR_AVX512)
        // Bits 2j of each byte come to the bottom of byte j of its lane, and name a level there.
        int32_t four;
        std::memcpy(&four, of_[0xe4], 4); // levels 0, 1, 2, 3
        const __m512i levels = _mm512_set1_epi32(four), low = _mm512_set1_epi8(3);
        for (; i + 16 <= n; i += 16) {
            const __m512i byte = _mm512_cvtepu8_epi32(_mm_loadu_si128(
                reinterpret_cast<const __m128i *>(from + i)));
            const __m512i pair = _mm512_or_si512(byte, _mm512_slli_epi32(byte, 6));
            const __m512i all = _mm512_or_si512(pair, _mm512_slli_epi32(pair, 12));
            _mm512_storeu_si512(to + i * 4, _mm512_shuffle_epi8(levels, _mm512_and_si512(all, low)));
        }
#endif
        for (; i < n; ++i) std::memcpy(to + i * 4, of_[from[i]], sizeof(of_[0]));
    }

  private:
    Lane of_[256][4];
};

// Asks for the centroids' similarities while the products are taken.
inline void fetch_sims(const Book &book, const uint16_t *centroid, int64_t n, int nq) {
#if defined(__GNUC__)
    for (int64_t i = 0; i < n; ++i)
        for (int q = 0; q < nq; q += 16)
            __builtin_prefetch(book.sims + int64_t{centroid[i]} * nq + q);
#else
    (void)book, (void)centroid, (void)n, (void)nq;
#endif
}

// best[q] = max(best[q], similarity of the centroid + what the residual adds)
inline void take_sims(const float *sims, const int32_t *__restrict found, float worth,
                      const float *scales, int nq, float *__restrict best) {
    for (int q = 0; q < nq; ++q) {
        const float value = sims[q] + static_cast<float>(found[q]) * worth * scales[q];
        best[q] = value > best[q] ? value : best[q];
    }
}

// best[q] of coded tokens [begin, begin + count); `scales` of the query.
inline void take_coded(const Codes &codes, const Book &book, int64_t begin, int64_t count,
                       const Packed &query, const Expansion &expansion, const float *scales, int nq,
                       Products &work, float *best) {
    const int n16 = query.groups * kGroup;
    for (int64_t t = begin, end = begin + count; t < end; t += kTile) {
        const int64_t n = end - t < kTile ? end - t : kTile, n_bytes = codes.width / 4;
        fetch_sims(book, codes.centroid + t, n, nq);
        expansion.expand(codes.residual + t * n_bytes, n * n_bytes, work.lanes());
        const int32_t *products = work.of_lanes(n, query);
        for (int64_t i = 0; i < n; ++i) {
            const int64_t c = codes.centroid[t + i];
            if (c >= book.n) throw Invalid("codes: a centroid beyond the codebook");
            take_sims(book.sims + c * nq, products + i * n16, book.worth, scales, nq, best);
        }
    }
}

struct ResidualInputs {
    ResidualInputs(const Codes *codes_, const Book *books_, const Tokens *queries_,
                   const Rule &rule_)
        : codes(codes_), books(books_), queries(queries_), rule(rule_), packed(kModalities) {
        for (int m = 0; m < rule.n_modalities; ++m) {
            expansions.emplace_back(books[m].levels);
            if (codes[m].residual && books[m].sims && queries[m].values)
                packed[m] = Packed(queries[m], 0, rule.nq);
        }
    }
    const Codes *codes;
    const Book *books;
    const Tokens *queries;
    const Rule &rule;
    std::vector<Packed> packed;
    std::vector<Expansion> expansions;
};

class ResidualScan {
  public:
    typedef Maxima Best;

    explicit ResidualScan(const ResidualInputs &inputs)
        : n_modalities(inputs.rule.n_modalities), n16(padded(inputs.rule.nq)), inputs_(inputs),
          work_(kWidth) {
        for (int m = 0; m < n_modalities; ++m) {
            used[m] = inputs.packed[m].groups > 0 && inputs.rule.weights[m] > 0;
            n_tokens[m] = inputs.codes[m].n;
        }
    }

    void cell(int m, int64_t begin, int64_t count, Maxima &best) {
        take_coded(inputs_.codes[m], inputs_.books[m], begin, count, inputs_.packed[m],
                   inputs_.expansions[m], inputs_.queries[m].scales, inputs_.rule.nq, work_,
                   best.row(m, inputs_.rule.nq, n16));
    }

    float finish(const Maxima &best) const { return score_of(best, inputs_.rule, n16); }

    const int n_modalities;
    const int n16;
    bool used[kModalities];
    int64_t n_tokens[kModalities];

  private:
    const ResidualInputs &inputs_;
    Products work_;
};

static void score_residuals(int threads, const Layout &layout, const Choice &choice,
                            const Codes *codes, const Book *books, const Tokens *queries,
                            const Rule &rule, float *out) {
    const ResidualInputs inputs(codes, books, queries, rule);
    score_documents<ResidualScan>(threads, layout, choice, rule.by_video, inputs, out);
}
