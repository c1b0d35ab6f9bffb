// Integer products with AVX2: see products_plain.h. Pairs of 16-bit values, exact without saturation.

using Lane = int16_t;

inline Lane prepared(int8_t value) { return value; }

inline void prepare(const int8_t *from, int64_t n, Lane *to) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), _mm256_cvtepi8_epi16(bytes));
    }
    for (; i < n; ++i) to[i] = from[i];
}

class Packed {
  public:
    Packed() = default;
    Packed(const Tokens &query, int64_t first, int64_t n)
        : width(query.width), groups(padded(static_cast<int>(n)) / kGroup),
          values_(static_cast<std::size_t>(groups) * kGroup * query.width) {
        for (int64_t q = 0; q < n; ++q)
            for (int d = 0; d < width; ++d)
                values_.get()[((q / kGroup * width + d / 2 * 2) * kGroup) + q % kGroup * 2 + d % 2] =
                    query.values[(first + q) * width + d];
    }
    const int16_t *group(int g) const { return values_.get() + int64_t{g} * width * kGroup; }

    int width = 0;
    int groups = 0;

  private:
    Aligned<int16_t> values_; // (groups, width / 2, 16, 2)
};

inline __m256i two_values(const Lane *at) {
    int32_t value;
    std::memcpy(&value, at, 4);
    return _mm256_set1_epi32(value);
}

// T tokens by one group, in two registers each.
template <int T>
inline void block(const Lane *tokens, int width, const int16_t *query, int stride, int32_t *out) {
    __m256i sums[T][2];
    for (int t = 0; t < T; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_si256();
    for (int d = 0; d < width; d += 2, query += 2 * kGroup) {
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i *>(query));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i *>(query + kGroup));
        for (int t = 0; t < T; ++t) {
            const __m256i two = two_values(tokens + t * width + d);
            sums[t][0] = _mm256_add_epi32(sums[t][0], _mm256_madd_epi16(two, low));
            sums[t][1] = _mm256_add_epi32(sums[t][1], _mm256_madd_epi16(two, high));
        }
    }
    for (int t = 0; t < T; ++t)
        for (int half = 0; half < 2; ++half)
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + t * stride + half * 8),
                                sums[t][half]);
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
