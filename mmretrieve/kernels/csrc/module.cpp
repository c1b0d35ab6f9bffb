// The module mmretrieve.kernels._native. Its functions take a level, a number of threads, tuples of
// arrays and the arrays to write to; kernels/native.py is their only caller.
#include "arguments.h"

#include <new>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace {

using namespace mmr;

#if defined(__x86_64__) && defined(__GNUC__)
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
}

bool runs(const Level *level) {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2") && has_f16c();
    if (level == avx2_level()) return avx2;
    if (level != avx512_level()) return true;
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__) && defined(__linux__)
bool runs(const Level *level) {
    constexpr unsigned long kDotProducts = 1ul << 20; // HWCAP_ASIMDDP
    return level != neon_level() || (getauxval(AT_HWCAP) & kDotProducts);
}
#elif defined(__aarch64__) && defined(__APPLE__)
bool runs(const Level *) { return true; }
#else
bool runs(const Level *level) { return level == &portable_level; }
#endif

// Levels that run here, the best first.
std::vector<const Level *> levels_here() {
    std::vector<const Level *> found;
    for (const Level *level : {avx512_level(), avx2_level(), neon_level(), &portable_level})
        if (level && runs(level)) found.push_back(level);
    return found;
}

const Level &level_at(int number) {
    static const std::vector<const Level *> here = levels_here();
    if (number < 0 || number >= static_cast<int>(here.size())) throw Invalid("no such level");
    return *here[static_cast<std::size_t>(number)];
}

// Calls `body`, whose exceptions become Python's. What it returns is returned.
template <class Body> PyObject *guarded(const Body &body) {
    try {
        return body();
    } catch (const PythonError &) {
    } catch (const Invalid &error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

PyObject *none() {
    Py_INCREF(Py_None);
    return Py_None;
}

template <class... Targets> void parse(PyObject *args, const char *format, Targets... targets) {
    if (!PyArg_ParseTuple(args, format, targets...)) throw PythonError{};
}

PyObject *levels(PyObject *, PyObject *) {
    return guarded([] {
        const auto here = levels_here();
        PyObject *names = PyTuple_New(static_cast<Py_ssize_t>(here.size()));
        for (std::size_t i = 0; names && i < here.size(); ++i)
            PyTuple_SetItem(names, static_cast<Py_ssize_t>(i), PyUnicode_FromString(here[i]->name));
        return names;
    });
}

PyObject *quantize(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *values_out, *scales_out;
        parse(args, "iiOOO", &level, &threads, &given, &values_out, &scales_out);
        Arrays arrays;
        const Vectors vectors = vectors_of(arrays, given);
        const int width = (vectors.dim + 3) / 4 * 4;
        auto values = arrays.get<int8_t>(values_out, "values", vectors.n, width);
        auto scales = arrays.get<float>(scales_out, "scales", vectors.n);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.quantize(threads, vectors, values.data, scales.data);
        }
        return none();
    });
}

PyObject *encode(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *numbers, *book, *inverse, *between, *residual;
        parse(args, "iiOOOOOO", &level, &threads, &given, &numbers, &book, &inverse, &between,
              &residual);
        Arrays arrays;
        const Vectors vectors = vectors_of(arrays, given);
        const auto centroid = arrays.get<const uint16_t>(numbers, "centroid", vectors.n);
        Encoder encoder;
        encoder.centroids = tokens_of(arrays, book, "centroids");
        const int width = encoder.centroids.width;
        if (width != (vectors.dim + 3) / 4 * 4)
            throw Invalid("vectors: expected the width of the centroids");
        encoder.inverse_spread = arrays.get<const float>(inverse, "spread", width).data;
        const auto halfway = arrays.get<const float>(between, "levels", 3);
        for (int i = 0; i < 3; ++i) encoder.between[i] = halfway.data[i];
        auto out = arrays.get<uint8_t>(residual, "out", vectors.n, width / 4);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.encode(threads, vectors, centroid.data, encoder, out.data);
        }
        return none();
    });
}

PyObject *assign(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *book, *best_out, *product_out;
        parse(args, "iiOOOO", &level, &threads, &given, &book, &best_out, &product_out);
        Arrays arrays;
        const Tokens tokens = tokens_of(arrays, given, "tokens");
        const Tokens centroids = tokens_of(arrays, book, "centroids");
        if (centroids.width != tokens.width) throw Invalid("centroids: expected the tokens' width");
        if (centroids.n < 1 || centroids.n > 65536)
            throw Invalid("centroids: expected 1 to 65536, got " + std::to_string(centroids.n));
        auto best = arrays.get<uint16_t>(best_out, "best", tokens.n);
        auto product = arrays.get<float>(product_out, "product", tokens.n);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.assign(threads, tokens, centroids, best.data, product.data);
        }
        return none();
    });
}

PyObject *dots(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *asked, *sims;
        parse(args, "iiOOO", &level, &threads, &given, &asked, &sims);
        Arrays arrays;
        const Tokens tokens = tokens_of(arrays, given, "tokens");
        const Tokens query = tokens_of(arrays, asked, "query");
        if (query.width != tokens.width) throw Invalid("query: expected the tokens' width");
        auto out = arrays.get<float>(sims, "out", tokens.n, query.n);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.dots(threads, tokens, query, out.data);
        }
        return none();
    });
}

PyObject *maxima(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *begins, *counts, *asked, *sims;
        parse(args, "iiOOOOO", &level, &threads, &given, &begins, &counts, &asked, &sims);
        Arrays arrays;
        const Tokens tokens = tokens_of(arrays, given, "tokens");
        const Tokens query = query_of(arrays, asked, "query");
        if (query.width != tokens.width) throw Invalid("query: expected the tokens' width");
        const auto begin = arrays.get<const int64_t>(begins, "begin");
        const auto count = arrays.get<const int32_t>(counts, "count", begin.rows);
        auto out = arrays.get<float>(sims, "out", begin.rows, query.n);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.maxima(threads, tokens, {begin.data, count.data, begin.rows}, query, out.data);
        }
        return none();
    });
}

PyObject *exact_maxima(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *begins, *counts, *asked, *sims;
        parse(args, "iiOOOOO", &level, &threads, &given, &begins, &counts, &asked, &sims);
        Arrays arrays;
        const Vectors vectors = vectors_of(arrays, given);
        const auto query = arrays.get<const float>(asked, "query", -1, vectors.dim);
        if (query.rows < 1 || query.rows > kQueryTokens) throw Invalid("query: 1 to 64 tokens");
        const auto begin = arrays.get<const int64_t>(begins, "begin");
        const auto count = arrays.get<const int32_t>(counts, "count", begin.rows);
        auto out = arrays.get<float>(sims, "out", begin.rows, query.rows);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.exact_maxima(threads, vectors, {begin.data, count.data, begin.rows}, query.data,
                                 static_cast<int>(query.rows), out.data);
        }
        return none();
    });
}

PyObject *coded_maxima(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *codes, *books, *begins, *counts, *asked, *sims;
        parse(args, "iiOOOOOO", &level, &threads, &codes, &books, &begins, &counts, &asked, &sims);
        Arrays arrays;
        Modalities given;
        const Tokens query = query_of(arrays, asked, "query");
        if (query.n < 1 || query.n > kQueryTokens) throw Invalid("query: 1 to 64 tokens");
        take_codes(arrays, codes, 1, true, given);
        take_books(arrays, books, 1, static_cast<int>(query.n), given);
        if (!given.codes[0].residual || !given.books[0].sims) throw Invalid("codes: none given");
        if (query.width != given.codes[0].width) throw Invalid("query: expected the codes' width");
        const auto begin = arrays.get<const int64_t>(begins, "begin");
        const auto count = arrays.get<const int32_t>(counts, "count", begin.rows);
        auto out = arrays.get<float>(sims, "out", begin.rows, query.n);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.coded_maxima(threads, given.codes[0], given.books[0],
                                 {begin.data, count.data, begin.rows}, query, out.data);
        }
        return none();
    });
}

PyObject *table(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads, modality;
        float inverse_step;
        PyObject *near, *how, *floors, *bytes;
        parse(args, "iiOOiOfO", &level, &threads, &near, &how, &modality, &floors, &inverse_step,
              &bytes);
        Arrays arrays;
        const Rule rule = rule_of(arrays, how);
        if (modality < 0 || modality >= rule.n_modalities) throw Invalid("modality: out of range");
        const auto sims = arrays.get<const float>(near, "sims", -1, rule.nq);
        const auto floor = arrays.get<const float>(floors, "floor", rule.nq);
        auto out = arrays.get<uint8_t>(bytes, "out", sims.rows, padded(rule.nq));
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.table(threads, sims.data, sims.rows, rule, modality, floor.data, inverse_step,
                          out.data);
        }
        return none();
    });
}

PyObject *bounds(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *near, *both;
        parse(args, "iiOO", &level, &threads, &near, &both);
        Arrays arrays;
        const auto sims = arrays.get<const float>(near, "sims", -1, -1);
        if (sims.rows < 1 || sims.columns > kWidth)
            throw Invalid("sims: expected at least one row, and no more columns than " +
                          std::to_string(kWidth));
        auto out = arrays.get<float>(both, "out", 2, sims.columns);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.bounds(threads, sims.data, sims.rows, static_cast<int>(sims.columns), out.data);
        }
        return none();
    });
}

// Where the scores of documents go, and how many there must be.
float *scores_of(Arrays &arrays, PyObject *out, const Layout &layout, const Choice &choice,
                 bool by_video) {
    const int64_t n = choice.only ? choice.n_only : by_video ? layout.n_videos : layout.n_passages;
    return arrays.get<float>(out, "out", n).data;
}

PyObject *score_tokens(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *cells, *keep, *only, *tokens, *queries, *how, *scores;
        parse(args, "iiOOOOOOO", &level, &threads, &cells, &keep, &only, &tokens, &queries, &how,
              &scores);
        Arrays arrays;
        Modalities given;
        const Layout layout = layout_of(arrays, cells);
        const Choice choice = choice_of(arrays, keep, only, layout);
        const Rule rule = rule_of(arrays, how);
        take_tokens(arrays, tokens, rule.n_modalities, given);
        take_queries(arrays, queries, rule, given);
        check_widths(given, rule.n_modalities);
        float *out = scores_of(arrays, scores, layout, choice, rule.by_video);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.score_tokens(threads, layout, choice, given.tokens, given.queries, rule, out);
        }
        return none();
    });
}

PyObject *score_residuals(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *cells, *keep, *only, *codes, *books, *queries, *how, *scores;
        parse(args, "iiOOOOOOOO", &level, &threads, &cells, &keep, &only, &codes, &books, &queries,
              &how, &scores);
        Arrays arrays;
        Modalities given;
        const Layout layout = layout_of(arrays, cells);
        const Choice choice = choice_of(arrays, keep, only, layout);
        const Rule rule = rule_of(arrays, how);
        take_codes(arrays, codes, rule.n_modalities, true, given);
        take_books(arrays, books, rule.n_modalities, rule.nq, given);
        take_queries(arrays, queries, rule, given);
        check_widths(given, rule.n_modalities);
        float *out = scores_of(arrays, scores, layout, choice, rule.by_video);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.score_residuals(threads, layout, choice, given.codes, given.books,
                                    given.queries, rule, out);
        }
        return none();
    });
}

// The bytes of all modalities are compared with each other token-wise, so they must mean the same.
void check_floors(const Modalities &given, const Rule &rule) {
    const float *first = nullptr;
    for (int m = 0; rule.how == kTokenMax && m < rule.n_modalities; ++m) {
        if (!given.tables.of[m].values || rule.weights[m] <= 0) continue;
        const float *floor = given.tables.floor + m * rule.nq;
        if (!first) first = floor;
        for (int q = 0; q < rule.nq; ++q)
            if (floor[q] != first[q])
                throw Invalid("tables.floor: expected the same in all modalities, token-wise");
    }
}

PyObject *score_codes(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *cells, *keep, *only, *codes, *tables, *how, *scores;
        parse(args, "iiOOOOOOO", &level, &threads, &cells, &keep, &only, &codes, &tables, &how,
              &scores);
        Arrays arrays;
        Modalities given;
        const Layout layout = layout_of(arrays, cells);
        const Choice choice = choice_of(arrays, keep, only, layout);
        const Rule rule = rule_of(arrays, how);
        take_codes(arrays, codes, rule.n_modalities, false, given);
        take_tables(arrays, tables, rule.n_modalities, rule.nq, given);
        check_floors(given, rule);
        float *out = scores_of(arrays, scores, layout, choice, rule.by_video);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.score_codes(threads, layout, choice, given.codes, given.tables, rule, out);
        }
        return none();
    });
}

PyObject *score_lists(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads, by_video, n_modalities, nq;
        PyObject *cells, *keep, *lists, *tables, *scores;
        parse(args, "iiOOOOiiiO", &level, &threads, &cells, &keep, &lists, &tables, &n_modalities,
              &nq, &by_video, &scores);
        Arrays arrays;
        Modalities given;
        const Layout layout = layout_of(arrays, cells);
        if (n_modalities < 1 || n_modalities > kModalities) throw Invalid("lists: too many");
        take_lists(arrays, lists, n_modalities, given);
        take_tables(arrays, tables, n_modalities, nq, given);
        const uint8_t *kept = keep == Py_None
            ? nullptr
            : arrays.get<const uint8_t>(keep, "keep", layout.n_passages).data;
        float *out = scores_of(arrays, scores, layout, Choice(), by_video != 0);
        const Level &kernels = level_at(level);
        {
            WithoutGil released;
            kernels.score_lists(threads, layout, given.lists, given.tables, n_modalities, nq,
                                by_video != 0, kept, out);
        }
        return none();
    });
}

PyObject *select(PyObject *, PyObject *args) {
    return guarded([&] {
        int level, threads;
        PyObject *given, *numbers;
        parse(args, "iiOO", &level, &threads, &given, &numbers);
        Arrays arrays;
        const auto scores = arrays.get<const float>(given, "scores");
        auto out = arrays.get<int64_t>(numbers, "out");
        const int64_t wanted = out.rows < scores.rows ? out.rows : scores.rows;
        const Level &kernels = level_at(level);
        int64_t n;
        {
            WithoutGil released;
            n = kernels.select(threads, scores.data, scores.rows, wanted, out.data);
        }
        return PyLong_FromLongLong(n);
    });
}

PyMethodDef methods[] = {
    {"levels", levels, METH_NOARGS, "Names of the levels that run here, the best first."},
    {"quantize", quantize, METH_VARARGS, nullptr},
    {"encode", encode, METH_VARARGS, nullptr},
    {"assign", assign, METH_VARARGS, nullptr},
    {"dots", dots, METH_VARARGS, nullptr},
    {"maxima", maxima, METH_VARARGS, nullptr},
    {"exact_maxima", exact_maxima, METH_VARARGS, nullptr},
    {"coded_maxima", coded_maxima, METH_VARARGS, nullptr},
    {"table", table, METH_VARARGS, nullptr},
    {"bounds", bounds, METH_VARARGS, nullptr},
    {"score_tokens", score_tokens, METH_VARARGS, nullptr},
    {"score_residuals", score_residuals, METH_VARARGS, nullptr},
    {"score_codes", score_codes, METH_VARARGS, nullptr},
    {"score_lists", score_lists, METH_VARARGS, nullptr},
    {"select", select, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {{0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The compiled kernels: see mmretrieve/kernels/native.py.",
    0, methods, slots, nullptr, nullptr, nullptr,
};

} // namespace

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&definition); }
