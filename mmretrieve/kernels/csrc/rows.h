// Rows of 16 G bytes with a running maximum. Included inside the namespace of a level.

#if defined(__GNUC__)
typedef uint8_t Bytes16 __attribute__((vector_size(16)));

inline void take_larger(Bytes16 &a, const uint8_t *at) {
    Bytes16 b;
    std::memcpy(&b, at, sizeof(b));
    a = a > b ? a : b;
}
#else
struct Bytes16 {
    uint8_t at[16];
};

inline void take_larger(Bytes16 &a, const uint8_t *at) {
    for (int i = 0; i < 16; ++i) a.at[i] = a.at[i] > at[i] ? a.at[i] : at[i];
}
#endif

// The widest parts that the level has registers for.
template <int G> struct Parts {
    typedef Bytes16 type;
};

#if defined(MMR_AVX2) || defined(MMR_AVX512)
typedef uint8_t Bytes32 __attribute__((vector_size(32)));

inline void take_larger(Bytes32 &a, const uint8_t *at) {
    Bytes32 b;
    std::memcpy(&b, at, sizeof(b));
    a = a > b ? a : b;
}

template <> struct Parts<2> {
    typedef Bytes32 type;
};
template <> struct Parts<4> {
    typedef Bytes32 type;
};
#endif

template <int G> struct Row {
    typedef typename Parts<G>::type Part;
    static constexpr int kSize = sizeof(Part);
    static constexpr int kParts = G * 16 / kSize;
    Part parts[kParts];

    void clear() { std::memset(parts, 0, sizeof(parts)); }

    void larger(const uint8_t *row) {
        for (int i = 0; i < kParts; ++i) take_larger(parts[i], row + i * kSize);
    }

    void load(const uint8_t *row) { std::memcpy(parts, row, sizeof(parts)); }
    void store(uint8_t *row) const { std::memcpy(row, parts, sizeof(parts)); }

    uint32_t sum() const;
};

template <int G> inline uint32_t Row<G>::sum() const {
    const auto *bytes = reinterpret_cast<const uint8_t *>(parts);
#if defined(__SSE2__)
    __m128i sums = _mm_setzero_si128();
    for (int i = 0; i < G; ++i) {
        const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i *>(bytes + i * 16));
        sums = _mm_add_epi64(sums, _mm_sad_epu8(part, _mm_setzero_si128()));
    }
    return static_cast<uint32_t>(_mm_cvtsi128_si32(sums) +
                                 _mm_cvtsi128_si32(_mm_srli_si128(sums, 8)));
#elif defined(__aarch64__)
    uint32_t sum = 0;
    for (int i = 0; i < G; ++i) sum += vaddlvq_u8(vld1q_u8(bytes + i * 16));
    return sum;
#else
    uint32_t sum = 0;
    for (int i = 0; i < G * 16; ++i) sum += bytes[i];
    return sum;
#endif
}
