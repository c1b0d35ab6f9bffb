// Integer products with AVX-512 VNNI: see products_plain.h. Tokens are prepared as unsigned bytes
// t + 128, so that the product is short of 128 times the sum of the query's values: sums start there.

using Lane = uint8_t;

inline Lane prepared(int8_t value) { return static_cast<Lane>(value + 128); }

inline void prepare(const int8_t *from, int64_t n, Lane *to) {
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(from + i), offset));
    for (; i < n; i += 4) {
        const __m128i value = _mm_loadu_si32(from + i);
        _mm_storeu_si32(to + i, _mm_xor_si128(value, _mm512_castsi512_si128(offset)));
    }
}

class Packed {
  public:
    Packed() = default;
    Packed(const Tokens &query, int64_t first, int64_t n)
        : width(query.width), groups(padded(static_cast<int>(n)) / kGroup),
          values_(static_cast<std::size_t>(groups) * kGroup * query.width),
          start_(static_cast<std::size_t>(groups) * kGroup) {
        for (int64_t q = 0; q < n; ++q)
            for (int d = 0; d < width; ++d) {
                const int8_t value = query.values[(first + q) * width + d];
                values_.get()[(int64_t{d / 4} * groups * kGroup + q) * 4 + d % 4] = value;
                start_.get()[q] -= 128 * value;
            }
    }
    const int8_t *values() const { return values_.get(); }
    const int32_t *start() const { return start_.get(); }

    int width = 0;
    int groups = 0;

  private:
    Aligned<int8_t> values_; // (width / 4, 16 * groups, 4)
    Aligned<int32_t> start_;
};

inline __m512i four_values(const Lane *at) {
    int32_t value;
    std::memcpy(&value, at, 4);
    return _mm512_set1_epi32(value);
}

// T tokens by G groups, with S sums each where there are too few to hide the latency of one.
template <int T, int G, int S>
inline void block(const Lane *tokens, const Packed &query, int32_t *out) {
    const int width = query.width;
    __m512i sums[S][T][G];
    for (int g = 0; g < G; ++g)
        for (int t = 0; t < T; ++t)
            for (int s = 0; s < S; ++s)
                sums[s][t][g] = s ? _mm512_setzero_si512() : _mm512_loadu_si512(query.start() + g * 16);
    const int8_t *row = query.values();
    int d = 0;
    for (; d + 4 * S <= width; d += 4 * S)
        for (int s = 0; s < S; ++s, row += G * 64) {
            __m512i values[G];
            for (int g = 0; g < G; ++g) values[g] = _mm512_loadu_si512(row + g * 64);
            for (int t = 0; t < T; ++t) {
                const __m512i four = four_values(tokens + t * width + d + 4 * s);
                for (int g = 0; g < G; ++g)
                    sums[s][t][g] = _mm512_dpbusd_epi32(sums[s][t][g], four, values[g]);
            }
        }
    for (; d < width; d += 4, row += G * 64)
        for (int t = 0; t < T; ++t)
            for (int g = 0; g < G; ++g)
                sums[0][t][g] =
                    _mm512_dpbusd_epi32(sums[0][t][g], four_values(tokens + t * width + d),
                                        _mm512_loadu_si512(row + g * 64));
    for (int t = 0; t < T; ++t)
        for (int g = 0; g < G; ++g) {
            for (int s = 1; s < S; ++s)
                sums[0][t][g] = _mm512_add_epi32(sums[0][t][g], sums[s][t][g]);
            _mm512_storeu_si512(out + (t * G + g) * 16, sums[0][t][g]);
        }
}

template <int T, int G> inline void block(const Lane *tokens, const Packed &query, int32_t *out) {
    block<T, G, (T * G >= 8 ? 1 : T * G >= 4 ? 2 : T * G >= 2 ? 4 : 8)>(tokens, query, out);
}

template <int G>
inline void products_of(const Lane *tokens, int64_t n, const Packed &query, int32_t *out) {
    constexpr int kTokens = G >= 3 ? 4 : 8; // more would not fit the registers
    const int width = query.width;
    int64_t t = 0;
    for (; t + kTokens <= n; t += kTokens)
        block<kTokens, G>(tokens + t * width, query, out + t * G * 16);
    for (; t + 4 <= n; t += 4) block<4, G>(tokens + t * width, query, out + t * G * 16);
    for (; t + 2 <= n; t += 2) block<2, G>(tokens + t * width, query, out + t * G * 16);
    if (t < n) block<1, G>(tokens + t * width, query, out + t * G * 16);
}

inline void products(const Lane *tokens, int64_t n, const Packed &query, int32_t *out) {
    switch (query.groups) {
    case 1: return products_of<1>(tokens, n, query, out);
    case 2: return products_of<2>(tokens, n, query, out);
    case 3: return products_of<3>(tokens, n, query, out);
    default: return products_of<4>(tokens, n, query, out);
    }
}
