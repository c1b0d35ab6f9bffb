// Compares the NEON level with the portable one on random arrays; built for ARM and run in an emulator
// by tests/contract/test_neon.py. Exit code 0 when all results are equal to the last bit.
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "views.h"

using namespace mmr;

static int n_wrong = 0;

template <class T>
static void compare(const char *what, const std::vector<T> &found, const std::vector<T> &wanted) {
    if (std::memcmp(found.data(), wanted.data(), found.size() * sizeof(T)) == 0) return;
    std::printf("%s differs\n", what);
    ++n_wrong;
}

struct Owned {
    std::vector<int8_t> values;
    std::vector<float> scales;
    Tokens tokens;
    Owned(std::mt19937 &random, int64_t n, int width)
        : values(static_cast<std::size_t>(n * width)), scales(static_cast<std::size_t>(n)) {
        for (auto &value : values) value = static_cast<int8_t>(random());
        for (auto &scale : scales) scale = static_cast<float>(random() % 1000 + 1) * 1e-5f;
        tokens = {values.data(), scales.data(), n, width};
    }
};

static void compare_products(const Level &neon, int64_t n, int64_t nq, int width) {
    std::mt19937 random(static_cast<unsigned>(n + nq + width));
    const Owned tokens(random, n, width), query(random, nq, width);
    std::vector<float> found(static_cast<std::size_t>(n * nq)), wanted(found.size());
    neon.dots(2, tokens.tokens, query.tokens, found.data());
    portable_level.dots(1, tokens.tokens, query.tokens, wanted.data());
    compare("dots", found, wanted);
    std::vector<uint16_t> best(static_cast<std::size_t>(n)), wanted_best(best.size());
    std::vector<float> product(best.size()), wanted_product(best.size());
    neon.assign(2, tokens.tokens, query.tokens, best.data(), product.data());
    portable_level.assign(1, tokens.tokens, query.tokens, wanted_best.data(), wanted_product.data());
    compare("assign", best, wanted_best);
    compare("assign's products", product, wanted_product);
}

// One video of 21 passages, the first without time, each with one cell of 7 tokens of modality 0.
static void compare_scores(const Level &neon, int nq, int how) {
    std::mt19937 random(static_cast<unsigned>(nq));
    constexpr int64_t kPassages = 21, kTokens = 7, kWidth4 = 52, kCentroids = 300;
    const Owned tokens(random, kPassages * kTokens, kWidth4), query(random, nq, kWidth4);
    std::vector<uint8_t> modality(kPassages, 0), timeless(kPassages, 0);
    std::vector<int64_t> begin, passages, videos{0, kPassages};
    std::vector<int32_t> count(kPassages, kTokens);
    timeless[0] = 1;
    for (int64_t i = 0; i < kPassages; ++i) begin.push_back(i * kTokens);
    for (int64_t i = 0; i <= kPassages; ++i) passages.push_back(i);
    const Layout layout{modality.data(), begin.data(), count.data(), kPassages, passages.data(),
                        kPassages,       videos.data(), 1,           timeless.data()};
    std::vector<float> null(static_cast<std::size_t>(nq), 0.1f);
    Rule rule{};
    rule.how = how;
    rule.power = 3;
    rule.centre = true;
    rule.n_modalities = 1;
    rule.nq = nq;
    rule.weights[0] = 1;
    rule.inverse_scale[0] = 2;
    rule.null = null.data();
    std::vector<float> found(kPassages), wanted(kPassages);
    neon.score_tokens(2, layout, Choice(), &tokens.tokens, &query.tokens, rule, found.data());
    portable_level.score_tokens(1, layout, Choice(), &tokens.tokens, &query.tokens, rule,
                                wanted.data());
    compare("score_tokens", found, wanted);

    std::vector<uint16_t> centroid(static_cast<std::size_t>(kPassages * kTokens));
    for (auto &c : centroid) c = static_cast<uint16_t>(random() % kCentroids);
    std::vector<uint8_t> bytes(static_cast<std::size_t>(kCentroids * padded(nq)));
    for (auto &byte : bytes) byte = static_cast<uint8_t>(random());
    Codes codes;
    codes.centroid = centroid.data();
    codes.n = static_cast<int64_t>(centroid.size());
    Tables tables{};
    tables.of[0] = {bytes.data(), kCentroids};
    tables.floor = null.data();
    tables.step = 0.01f;
    neon.score_codes(2, layout, Choice(), &codes, tables, rule, found.data());
    portable_level.score_codes(1, layout, Choice(), &codes, tables, rule, wanted.data());
    compare("score_codes", found, wanted);
}

int main() {
    const Level *neon = neon_level();
    if (!neon) {
        std::printf("not compiled for ARM\n");
        return 2;
    }
    for (int width : {4, 8, 16, 20, 52, 128, 1024})
        for (int nq : {1, 16, 33, 64})
            for (int n : {1, 3, 37}) compare_products(*neon, n, nq, width);
    for (int nq : {1, 16, 33, 48, 64})
        for (int how : {kTokenMax, kModalityMax, kWeighted}) compare_scores(*neon, nq, how);
    std::printf("%d differences\n", n_wrong);
    return n_wrong ? 1 : 0;
}
