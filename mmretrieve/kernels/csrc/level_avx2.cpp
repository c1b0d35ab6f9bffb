// x86 processors with AVX2.
#include "level_before.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define MMR_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,popcnt,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c,popcnt,bmi,bmi2")
#endif
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const mmr::Level *mmr::avx2_level() {
    static const Level it = level("avx2");
    return &it;
}
#else
const mmr::Level *mmr::avx2_level() { return nullptr; }
#endif
