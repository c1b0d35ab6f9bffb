// The kernels of one level, in an unnamed namespace: included once in each source that has set the
// instructions to use and MMR_AVX512, MMR_AVX2, MMR_NEON or none of them.

namespace mmr {
namespace {

#if defined(MMR_AVX512)
#include "products_avx512.h"
#elif defined(MMR_AVX2)
#include "products_avx2.h"
#elif defined(MMR_NEON)
#include "products_neon.h"
#else
#include "products_plain.h"
#endif

#include "rows.h"
#include "scores.h"
#include "documents.h"
#include "scan_tokens.h"
#include "scan_codes.h"
#include "build.h"
#include "exact.h"
#include "lists.h"
#include "select.h"

constexpr Level level(const char *name) {
    return {name,         quantize,     encode, assign, dots,         maxima,
            exact_maxima, coded_maxima, table,  bounds, score_tokens, score_residuals,
            score_codes,  score_lists,  select};
}

} // namespace
} // namespace mmr
