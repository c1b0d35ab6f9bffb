// Integer products without intrinsics. Included inside the namespace of a level.
//
// Every level has: Lane, the type of prepared token values; prepare(), which makes them from int8;
// Packed, query tokens in groups of 16 in the order that the products need; and products(), which
// writes (n, 16 * groups) exact int32 dot products. Widths are multiples of 4.

using Lane = int16_t;

inline Lane prepared(int8_t value) { return value; }

inline void prepare(const int8_t *from, int64_t n, Lane *to) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

class Packed {
  public:
    Packed() = default;
    Packed(const Tokens &query, int64_t first, int64_t n)
        : width(query.width), groups(padded(static_cast<int>(n)) / kGroup),
          values_(static_cast<std::size_t>(groups) * kGroup * query.width) {
        for (int64_t q = 0; q < n; ++q)
            for (int d = 0; d < width; ++d)
                values_.get()[(q / kGroup * width + d) * kGroup + q % kGroup] =
                    query.values[(first + q) * width + d];
    }
    const int16_t *group(int g) const { return values_.get() + int64_t{g} * width * kGroup; }

    int width = 0;
    int groups = 0;

  private:
    Aligned<int16_t> values_;
};

inline void one_group(const Lane *token, int width, const int16_t *query, int32_t *out) {
    int32_t sums[kGroup] = {};
    for (int d = 0; d < width; ++d)
        for (int q = 0; q < kGroup; ++q)
            sums[q] += static_cast<int32_t>(query[d * kGroup + q]) * token[d];
    for (int q = 0; q < kGroup; ++q) out[q] = sums[q];
}

inline void products(const Lane *tokens, int64_t n, const Packed &query, int32_t *out) {
    for (int64_t t = 0; t < n; ++t)
        for (int g = 0; g < query.groups; ++g)
            one_group(tokens + t * query.width, query.width, query.group(g),
                      out + (t * query.groups + g) * kGroup);
}
