// Integer products with NEON's sdot: see products_plain.h.

using Lane = int8_t;

inline Lane prepared(int8_t value) { return value; }

inline void prepare(const int8_t *from, int64_t n, Lane *to) {
    std::memcpy(to, from, static_cast<std::size_t>(n));
}

class Packed {
  public:
    Packed() = default;
    Packed(const Tokens &query, int64_t first, int64_t n)
        : width(query.width), groups(padded(static_cast<int>(n)) / kGroup),
          values_(static_cast<std::size_t>(groups) * kGroup * query.width) {
        for (int64_t q = 0; q < n; ++q)
            for (int d = 0; d < width; ++d)
                values_.get()[(q / kGroup * width + d / 4 * 4) * kGroup + q % kGroup * 4 + d % 4] =
                    query.values[(first + q) * width + d];
    }
    const int8_t *group(int g) const { return values_.get() + int64_t{g} * width * kGroup; }

    int width = 0;
    int groups = 0;

  private:
    Aligned<int8_t> values_; // (groups, width / 4, 16, 4)
};

// Adds the products of the four values in lane L of every token.
template <int L, int T>
inline void step(int32x4_t (&sums)[T][4], const int8x16_t (&values)[T], const int8_t *query) {
    for (int i = 0; i < 4; ++i) {
        const int8x16_t row = vld1q_s8(query + L * 4 * kGroup + i * 16);
        for (int t = 0; t < T; ++t) sums[t][i] = vdotq_laneq_s32(sums[t][i], row, values[t], L);
    }
}

// T tokens by one group, in four registers each.
template <int T>
inline void block(const Lane *tokens, int width, const int8_t *query, int stride, int32_t *out) {
    int32x4_t sums[T][4];
    for (int t = 0; t < T; ++t)
        for (int i = 0; i < 4; ++i) sums[t][i] = vdupq_n_s32(0);
    int d = 0;
    int8x16_t values[T];
    for (; d + 16 <= width; d += 16, query += 16 * kGroup) {
        for (int t = 0; t < T; ++t) values[t] = vld1q_s8(tokens + t * width + d);
        step<0, T>(sums, values, query);
        step<1, T>(sums, values, query);
        step<2, T>(sums, values, query);
        step<3, T>(sums, values, query);
    }
    for (; d < width; d += 4, query += 4 * kGroup) {
        for (int t = 0; t < T; ++t) {
            int32_t four;
            std::memcpy(&four, tokens + t * width + d, 4);
            values[t] = vreinterpretq_s8_s32(vdupq_n_s32(four));
        }
        step<0, T>(sums, values, query);
    }
    for (int t = 0; t < T; ++t)
        for (int i = 0; i < 4; ++i) vst1q_s32(out + t * stride + i * 4, sums[t][i]);
}

inline void products(const Lane *tokens, int64_t n, const Packed &query, int32_t *out) {
    const int width = query.width, stride = query.groups * kGroup;
    for (int g = 0; g < query.groups; ++g) {
        int64_t t = 0;
        for (; t + 4 <= n; t += 4)
            block<4>(tokens + t * width, width, query.group(g), stride, out + t * stride + g * kGroup);
        for (; t < n; ++t)
            block<1>(tokens + t * width, width, query.group(g), stride, out + t * stride + g * kGroup);
    }
}
