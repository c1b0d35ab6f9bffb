// Integer products without intrinsics. Included inside the namespace of a level.
//
// Every level has: Lane, the type of prepared token values; prepare(), which makes them from int8;
// Packed, query tokens in groups of 16 in the order that the products need; and products(), which
// writes (n, 16 * groups) exact int32 dot products. Widths are multiples of 4.

using Lane = float; // sums of products of integers below 2^24 are exact

inline Lane prepared(int8_t value) { return value; }

inline void prepare(const int8_t *__restrict from, int64_t n, Lane *__restrict to) {
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
    const float *group(int g) const { return values_.get() + int64_t{g} * width * kGroup; }

    int width = 0;
    int groups = 0;

  private:
    Aligned<float> values_;
};

#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16)));
#else
struct Four {
    float at[4];
};
inline Four operator*(Four a, float b) {
    for (float &value : a.at) value *= b;
    return a;
}
inline Four &operator+=(Four &a, Four b) {
    for (int i = 0; i < 4; ++i) a.at[i] += b.at[i];
    return a;
}
#endif

// T tokens by one group.
template <int T>
inline void block(const Lane *tokens, int width, const float *query, int stride, int32_t *out) {
    Four sums[T][4] = {};
    for (int d = 0; d < width; ++d, query += kGroup) {
        Four row[4];
        std::memcpy(row, query, sizeof(row));
        for (int t = 0; t < T; ++t)
            for (int i = 0; i < 4; ++i) sums[t][i] += row[i] * tokens[t * width + d];
    }
    for (int t = 0; t < T; ++t) {
        float found[kGroup];
        std::memcpy(found, sums[t], sizeof(found));
        for (int q = 0; q < kGroup; ++q) out[t * stride + q] = static_cast<int32_t>(found[q]);
    }
}

inline void products(const Lane *tokens, int64_t n, const Packed &query, int32_t *out) {
    const int width = query.width, stride = query.groups * kGroup;
    for (int g = 0; g < query.groups; ++g) {
        int64_t t = 0;
        for (; t + 2 <= n; t += 2)
            block<2>(tokens + t * width, width, query.group(g), stride, out + t * stride + g * kGroup);
        if (t < n)
            block<1>(tokens + t * width, width, query.group(g), stride, out + t * stride + g * kGroup);
    }
}
