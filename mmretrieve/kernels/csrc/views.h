// What kernels work on: pointers into arrays whose lengths were checked, and the table of one level.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace mmr {

constexpr int kModalities = 8;   // at most
constexpr int kQueryTokens = 64; // at most, for everything that scores documents
constexpr int kWidth = 1024;     // at most: products stay below 2^24, exact as float
constexpr int kGroup = 16;       // query tokens that are worked on together

struct Invalid : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Row i is scales[i] * values[i], values being (n, width).
struct Tokens {
    const int8_t *values = nullptr;
    const float *scales = nullptr;
    int64_t n = 0;
    int width = 0;
};

// See arrays.Layout. The ends of `passages` and `videos` were checked; everything between them is
// checked where it is read, since the files may be damaged.
struct Layout {
    const uint8_t *modality;
    const int64_t *begin;
    const int32_t *count;
    int64_t n_cells;
    const int64_t *passages;
    int64_t n_passages;
    const int64_t *videos;
    int64_t n_videos;
    const uint8_t *timeless;
};

// `keep` (n_cells,) or null; `only` (n_only,) document numbers, or null for all.
struct Choice {
    const uint8_t *keep = nullptr;
    const int64_t *only = nullptr;
    int64_t n_only = 0;
};

enum Aggregation { kTokenMax = 0, kModalityMax = 1, kWeighted = 2 };

struct Rule {
    int how;
    float power;
    bool centre;
    bool by_video;
    int n_modalities;
    int nq;
    float weights[kModalities];
    float inverse_scale[kModalities];
    const float *null; // (n_modalities, nq)
};

// `residual` (n, width / 4), null where centroids alone are scored.
struct Codes {
    const uint16_t *centroid = nullptr;
    const uint8_t *residual = nullptr;
    int64_t n = 0;
    int width = 0;
};

// Four levels as eight-bit integers worth `worth` each; `sims` (n, nq) of the centroids.
struct Book {
    int8_t levels[4] = {0, 0, 0, 0};
    float worth = 0;
    const float *sims = nullptr;
    int64_t n = 0;
};

// (n, padded nq) bytes.
struct Table {
    const uint8_t *values = nullptr;
    int64_t n = 0;
};

struct Tables {
    Table of[kModalities];
    const float *floor; // (n_modalities, nq)
    float step;
};

// Passages of centroid c: passages[starts[c] : starts[c + 1]].
struct Lists {
    const uint32_t *passages = nullptr;
    int64_t n_postings = 0;
    const int64_t *starts = nullptr;
    int64_t n_centroids = 0;
    const int64_t *active = nullptr;
    int64_t n_active = 0;
};

// (n, dim) float16 or float32, the other pointer being null.
struct Vectors {
    const uint16_t *half = nullptr;
    const float *full = nullptr;
    int64_t n = 0;
    int dim = 0;
};

// For residuals: a token is centroid + spread * level. `inverse_spread` (width,), 0 where spread is.
struct Encoder {
    Tokens centroids;
    const float *inverse_spread;
    float between[3]; // the values halfway between levels
};

// Cells by the tokens they own.
struct Cells {
    const int64_t *begin;
    const int32_t *count;
    int64_t n;

    void check(int64_t c, int64_t n_tokens) const {
        if (begin[c] < 0 || count[c] < 0 || begin[c] > n_tokens - count[c])
            throw Invalid("a cell's tokens lie outside of those given");
    }
};

// The kernels of one level, all taking the number of threads first.
struct Level {
    const char *name;
    void (*quantize)(int, const Vectors &, int8_t *values, float *scales);
    void (*encode)(int, const Vectors &, const uint16_t *centroid, const Encoder &, uint8_t *out);
    void (*assign)(int, const Tokens &, const Tokens &centroids, uint16_t *best, float *product);
    void (*dots)(int, const Tokens &, const Tokens &query, float *out);
    void (*maxima)(int, const Tokens &, const Cells &, const Tokens &query, float *out);
    void (*exact_maxima)(int, const Vectors &, const Cells &, const float *query, int nq, float *out);
    void (*coded_maxima)(int, const Codes &, const Book &, const Cells &, const Tokens &query,
                         float *out);
    void (*table)(int, const float *sims, int64_t n, const Rule &, int modality, const float *floor,
                  float inverse_step, uint8_t *out);
    void (*bounds)(int, const float *sims, int64_t n, int nq, float *out);
    void (*score_tokens)(int, const Layout &, const Choice &, const Tokens *, const Tokens *queries,
                         const Rule &, float *out);
    void (*score_residuals)(int, const Layout &, const Choice &, const Codes *, const Book *,
                            const Tokens *queries, const Rule &, float *out);
    void (*score_codes)(int, const Layout &, const Choice &, const Codes *, const Tables &,
                        const Rule &, float *out);
    void (*score_lists)(int, const Layout &, const Lists *, const Tables &, int n_modalities, int nq,
                        bool by_video, const uint8_t *keep, float *out);
    int64_t (*select)(int, const float *scores, int64_t n, int64_t wanted, int64_t *out);
};

extern const Level portable_level;
const Level *avx2_level();   // null where this was not compiled for
const Level *avx512_level();
const Level *neon_level();

inline int padded(int nq) { return (nq + kGroup - 1) / kGroup * kGroup; }

} // namespace mmr
