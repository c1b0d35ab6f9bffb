// What an index is built with, and the tables of a query. Included inside the namespace of a level.

// 16 floats rounded to the nearest integers, halves to even, and kept within +-127.
inline void rounded(const float *__restrict values, int n, float factor, int8_t *__restrict out) {
    constexpr float kMagic = 12582912.0f; // 1.5 * 2^23: what is added to it is rounded to an integer
    for (int i = 0; i < n; ++i) {
        float value = values[i] * factor;
        value = value < 127.0f ? value : 127.0f;
        value = value > -127.0f ? value : -127.0f;
        out[i] = static_cast<int8_t>(static_cast<int32_t>((value + kMagic) - kMagic));
    }
}

inline float half_to_float(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16;
    const uint32_t rest = half & 0x7fffu;
    // Exponents are moved by 112; a product does it for denormals as well, infinities apart.
    uint32_t bits = rest << 13;
    float value;
    std::memcpy(&value, &bits, 4);
    value *= 5.192296858534828e33f; // 2^112
    std::memcpy(&bits, &value, 4);
    bits = (rest >= 0x7c00u ? 0x7f800000u | rest << 13 : bits) | sign;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline void half_to_float(const uint16_t *from, int n, float *to) {
    int i = 0;
#if defined(MMR_AVX512) || defined(MMR_AVX2)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(
                                     reinterpret_cast<const __m128i *>(from + i))));
#endif
    for (; i < n; ++i) to[i] = half_to_float(from[i]);
}

// Row i of vectors as floats, in `space` where they are halves.
inline const float *row_of(const Vectors &vectors, int64_t i, float *space) {
    if (vectors.full) return vectors.full + i * vectors.dim;
    half_to_float(vectors.half + i * vectors.dim, vectors.dim, space);
    return space;
}

inline float largest_of(const float *row, int n) {
    int32_t largest = 0; // the bits of floats without signs are ordered as the floats are
    for (int i = 0; i < n; ++i) {
        int32_t bits;
        std::memcpy(&bits, row + i, 4);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7f800000) throw Invalid("vectors: a value is not finite");
    float value;
    std::memcpy(&value, &largest, 4);
    return value;
}

inline void quantize_rows(const Vectors &vectors, int64_t begin, int64_t end, int8_t *values,
                          float *scales) {
    std::vector<float> space(static_cast<std::size_t>(vectors.dim));
    const int width = (vectors.dim + 3) / 4 * 4;
    for (int64_t i = begin; i < end; ++i) {
        const float *row = row_of(vectors, i, space.data());
        const float largest = largest_of(row, vectors.dim);
        int8_t *out = values + i * width;
        std::memset(out, 0, static_cast<std::size_t>(width));
        if (largest > 1e-30f) rounded(row, vectors.dim, 127.0f / largest, out);
        scales[i] = largest / 127.0f;
    }
}

static void quantize(int threads, const Vectors &vectors, int8_t *values, float *scales) {
    const int64_t n_chunks = (vectors.n + kTokensOfChunk - 1) / kTokensOfChunk;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        for (int64_t c; chunks.next(c);)
            quantize_rows(vectors, part(c, vectors.n, n_chunks), part(c + 1, vectors.n, n_chunks),
                          values, scales);
    });
}

// The numbers of levels of one vector, one byte each.
inline void levels_of(const float *row, int n, const int8_t *centroid, float scale,
                      const Encoder &encoder, uint8_t *__restrict out) {
    const float *inverse = encoder.inverse_spread;
    const float low = encoder.between[0], middle = encoder.between[1], high = encoder.between[2];
    for (int i = 0; i < n; ++i) {
        const float rest = (row[i] - scale * static_cast<float>(centroid[i])) * inverse[i];
        out[i] = static_cast<uint8_t>((rest > low) + (rest > middle) + (rest > high));
    }
}

inline void encode_rows(const Vectors &vectors, const uint16_t *centroid, const Encoder &encoder,
                        int64_t begin, int64_t end, uint8_t *out) {
    const Tokens &centroids = encoder.centroids;
    const int width = centroids.width;
    std::vector<float> space(static_cast<std::size_t>(vectors.dim)), row(static_cast<std::size_t>(width));
    std::vector<uint8_t> levels(static_cast<std::size_t>(width));
    for (int64_t i = begin; i < end; ++i) {
        const int64_t c = centroid[i];
        if (c >= centroids.n) throw Invalid("centroid: a number beyond the codebook");
        std::memcpy(row.data(), row_of(vectors, i, space.data()),
                    sizeof(float) * static_cast<std::size_t>(vectors.dim));
        levels_of(row.data(), width, centroids.values + c * width, centroids.scales[c], encoder,
                  levels.data());
        for (int j = 0; j < width / 4; ++j)
            out[i * (width / 4) + j] =
                static_cast<uint8_t>(levels[4 * j] | levels[4 * j + 1] << 2 |
                                     levels[4 * j + 2] << 4 | levels[4 * j + 3] << 6);
    }
}

static void encode(int threads, const Vectors &vectors, const uint16_t *centroid,
                   const Encoder &encoder, uint8_t *out) {
    const int64_t n_chunks = (vectors.n + kTokensOfChunk - 1) / kTokensOfChunk;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        for (int64_t c; chunks.next(c);)
            encode_rows(vectors, centroid, encoder, part(c, vectors.n, n_chunks),
                        part(c + 1, vectors.n, n_chunks), out);
    });
}

// Of every token the best centroid so far, apart for numbers with the same remainder by 16.
struct Nearest {
    alignas(64) float product[kTile][kGroup];
    alignas(64) int32_t number[kTile][kGroup];

    void clear() {
        for (int t = 0; t < kTile; ++t)
            for (int i = 0; i < kGroup; ++i) {
                product[t][i] = -INFINITY;
                number[t][i] = 0;
            }
    }
};

#if defined(MMR_AVX512)
inline void take_nearest(const int32_t *__restrict products, float scale,
                         const float *__restrict scales, int32_t base, int n,
                         float *__restrict best, int32_t *__restrict number) {
    const __mmask16 valid = static_cast<__mmask16>((1u << n) - 1);
    const __m512 scaled = _mm512_mul_ps(
        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(products)), _mm512_set1_ps(scale)),
        _mm512_maskz_loadu_ps(valid, scales));
    const __mmask16 better =
        _mm512_mask_cmp_ps_mask(valid, scaled, _mm512_loadu_ps(best), _CMP_GT_OQ);
    const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_mask_storeu_ps(best, better, scaled);
    _mm512_mask_storeu_epi32(number, better, _mm512_add_epi32(step, _mm512_set1_epi32(base)));
}
#else
inline void take_nearest(const int32_t *__restrict products, float scale,
                         const float *__restrict scales, int32_t base, int n,
                         float *__restrict best, int32_t *__restrict number) {
    for (int i = 0; i < n; ++i) {
        const float product = static_cast<float>(products[i]) * scale * scales[i];
        const bool better = product > best[i];
        best[i] = better ? product : best[i];
        number[i] = better ? base + i : number[i];
    }
}
#endif

constexpr int kCentroids = 32; // of one block

inline void assign_tile(const Tokens &tokens, int64_t begin, int64_t n, const Tokens &centroids,
                        const std::vector<Packed> &packed, Products &work, Nearest &nearest) {
    nearest.clear();
    prepare(tokens.values + begin * tokens.width, n * tokens.width, work.lanes());
    for (std::size_t b = 0; b < packed.size(); ++b) {
        const int32_t *found = work.of_lanes(n, packed[b]);
        const int stride = packed[b].groups * kGroup;
        for (int g = 0; g < packed[b].groups; ++g) {
            const int64_t base = static_cast<int64_t>(b) * kCentroids + g * kGroup;
            const int64_t rest = centroids.n - base;
            for (int64_t t = 0; t < n; ++t) {
                const int32_t *mine = found + t * stride + g * kGroup;
                const float scale = tokens.scales[begin + t];
                if (rest >= kGroup)
                    take_nearest(mine, scale, centroids.scales + base, static_cast<int32_t>(base),
                                 kGroup, nearest.product[t], nearest.number[t]);
                else
                    take_nearest(mine, scale, centroids.scales + base, static_cast<int32_t>(base),
                                 static_cast<int>(rest), nearest.product[t], nearest.number[t]);
            }
        }
    }
}

inline void best_of(const float *products, const int32_t *numbers, uint16_t &best, float &product) {
    int32_t number = numbers[0];
    product = products[0];
    for (int i = 1; i < kGroup; ++i)
        if (products[i] > product || (products[i] == product && numbers[i] < number)) {
            product = products[i];
            number = numbers[i];
        }
    best = static_cast<uint16_t>(number);
}

static void assign(int threads, const Tokens &tokens, const Tokens &centroids, uint16_t *best,
                   float *product) {
    const std::vector<Packed> packed = packed_blocks(centroids, kCentroids);
    const int64_t n_chunks = (tokens.n + kTile - 1) / kTile;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        Products work(tokens.width);
        Nearest nearest;
        for (int64_t c; chunks.next(c);) {
            const int64_t begin = c * kTile, n = tokens.n - begin < kTile ? tokens.n - begin : kTile;
            assign_tile(tokens, begin, n, centroids, packed, work, nearest);
            for (int64_t t = 0; t < n; ++t)
                best_of(nearest.product[t], nearest.number[t], best[begin + t], product[begin + t]);
        }
    });
}

inline void table_row(const float *sims, const Rule &rule, int modality, const float *floor,
                      float inverse_step, uint8_t *__restrict out) {
    constexpr float kMagic = 12582912.0f;
    const int nq = rule.nq;
    alignas(64) float values[kQueryTokens];
    evidence(sims, rule, modality, values);
    const float weight = rule.weights[modality];
    for (int q = 0; q < nq; ++q) {
        float value = (values[q] * weight - floor[q]) * inverse_step;
        value = value < 255.0f ? value : 255.0f;
        value = value > 0.0f ? value : 0.0f;
        out[q] = static_cast<uint8_t>(static_cast<int32_t>((value + kMagic) - kMagic));
    }
}

static void table(int threads, const float *sims, int64_t n, const Rule &rule, int modality,
                  const float *floor, float inverse_step, uint8_t *out) {
    const int n16 = padded(rule.nq);
    const int64_t n_chunks = (n + kTokensOfChunk - 1) / kTokensOfChunk;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        for (int64_t c; chunks.next(c);)
            for (int64_t i = part(c, n, n_chunks); i < part(c + 1, n, n_chunks); ++i) {
                std::memset(out + i * n16, 0, static_cast<std::size_t>(n16));
                table_row(sims + i * rule.nq, rule, modality, floor, inverse_step, out + i * n16);
            }
    });
}

// Means and maxima of columns; the means in double, whatever the threads.
static void bounds(int, const float *sims, int64_t n, int nq, float *out) {
    std::vector<double> sums(static_cast<std::size_t>(nq));
    std::vector<float> largest(static_cast<std::size_t>(nq), -INFINITY);
    double *sum = sums.data();
    float *top = largest.data();
    for (int64_t i = 0; i < n; ++i, sims += nq)
        for (int q = 0; q < nq; ++q) {
            sum[q] += sims[q];
            top[q] = sims[q] > top[q] ? sims[q] : top[q];
        }
    for (int q = 0; q < nq; ++q) {
        out[q] = static_cast<float>(sum[q] / static_cast<double>(n));
        out[nq + q] = top[q];
    }
}
