// x86 processors with AVX-512 and its byte products (VNNI).
#include "level_before.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define MMR_AVX512
#if defined(__clang__)
#pragma clang attribute push(                                                                     \
    __attribute__((target("avx2,f16c,popcnt,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c,popcnt,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const mmr::Level *mmr::avx512_level() {
    static const Level it = level("avx512");
    return &it;
}
#else
const mmr::Level *mmr::avx512_level() { return nullptr; }
#endif
