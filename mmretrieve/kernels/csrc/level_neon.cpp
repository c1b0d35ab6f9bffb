// ARM processors with dot products of bytes (ARMv8.2).
#include "level_before.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define MMR_NEON
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const mmr::Level *mmr::neon_level() {
    static const Level it = level("neon");
    return &it;
}
#else
const mmr::Level *mmr::neon_level() { return nullptr; }
#endif
