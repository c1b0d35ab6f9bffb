#include "arguments.h"

#include <cmath>

namespace mmr {

namespace {

float number_of(PyObject *object) {
    const double value = PyFloat_AsDouble(object);
    if (PyErr_Occurred()) throw PythonError{};
    return static_cast<float>(value);
}

int integer_of(PyObject *object) {
    const long value = PyLong_AsLong(object);
    if (PyErr_Occurred()) throw PythonError{};
    if (value < INT32_MIN || value > INT32_MAX) throw Invalid("an integer is out of range");
    return static_cast<int>(value);
}

int width_of(int64_t columns, const char *name) {
    if (columns < 4 || columns > kWidth || columns % 4)
        throw Invalid(std::string(name) + ": expected a width of 4 to " + std::to_string(kWidth) +
                      " that is a multiple of 4, got " + std::to_string(columns));
    return static_cast<int>(columns);
}

void check_query_tokens(int64_t n) {
    if (n < 1 || n > kQueryTokens)
        throw Invalid("expected 1 to " + std::to_string(kQueryTokens) + " query tokens, got " +
                      std::to_string(n));
}

} // namespace

std::vector<PyObject *> items_of(PyObject *tuple, const char *name, Py_ssize_t n) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != n)
        throw Invalid(std::string(name) + ": expected a tuple of " + std::to_string(n));
    std::vector<PyObject *> items;
    for (Py_ssize_t i = 0; i < n; ++i) items.push_back(PyTuple_GetItem(tuple, i));
    return items;
}

Tokens tokens_of(Arrays &arrays, PyObject *pair, const char *name) {
    const auto items = items_of(pair, name, 2);
    const auto values = arrays.get<const int8_t>(items[0], name, -1, -1);
    const auto scales = arrays.get<const float>(items[1], name, values.rows);
    return {values.data, scales.data, values.rows, width_of(values.columns, name)};
}

Tokens query_of(Arrays &arrays, PyObject *pair, const char *name) {
    const Tokens query = tokens_of(arrays, pair, name);
    for (int64_t q = 0; q < query.n; ++q)
        if (!(query.scales[q] >= 0) || std::isinf(query.scales[q]))
            throw Invalid(std::string(name) + ": scales must be finite and not negative");
    return query;
}

Vectors vectors_of(Arrays &arrays, PyObject *object) {
    Vectors out;
    if (arrays.is<const Half>(object, "vectors")) {
        const auto half = arrays.get<const Half>(object, "vectors", -1, -1);
        out.half = reinterpret_cast<const uint16_t *>(half.data);
        out.n = half.rows;
        out.dim = static_cast<int>(half.columns > kWidth ? kWidth + 1 : half.columns);
    } else {
        const auto full = arrays.get<const float>(object, "vectors", -1, -1);
        out.full = full.data;
        out.n = full.rows;
        out.dim = static_cast<int>(full.columns > kWidth ? kWidth + 1 : full.columns);
    }
    if (out.dim < 1 || out.dim > kWidth)
        throw Invalid("vectors: expected 1 to " + std::to_string(kWidth) + " columns");
    return out;
}

Layout layout_of(Arrays &arrays, PyObject *tuple) {
    const auto items = items_of(tuple, "layout", 6);
    const auto modality = arrays.get<const uint8_t>(items[0], "layout.modality");
    const auto begin = arrays.get<const int64_t>(items[1], "layout.begin", modality.rows);
    const auto count = arrays.get<const int32_t>(items[2], "layout.count", modality.rows);
    const auto timeless = arrays.get<const uint8_t>(items[5], "layout.timeless");
    const auto passages = arrays.get<const int64_t>(items[3], "layout.passages", timeless.rows + 1);
    const auto videos = arrays.get<const int64_t>(items[4], "layout.videos");
    if (videos.rows < 1) throw Invalid("layout.videos: expected at least one number");
    const int64_t n_videos = videos.rows - 1;
    if (passages.data[0] != 0 || passages.data[timeless.rows] != modality.rows)
        throw Invalid("layout.passages: expected to begin at 0 and to end at the number of cells");
    if (videos.data[0] != 0 || videos.data[n_videos] != timeless.rows)
        throw Invalid("layout.videos: expected to begin at 0 and to end at the number of passages");
    return {modality.data, begin.data,  count.data, modality.rows, passages.data,
            timeless.rows, videos.data, n_videos,   timeless.data};
}

Rule rule_of(Arrays &arrays, PyObject *tuple) {
    const auto items = items_of(tuple, "rule", 7);
    Rule rule;
    rule.how = integer_of(items[0]);
    rule.power = number_of(items[1]);
    rule.centre = integer_of(items[2]) != 0;
    rule.by_video = integer_of(items[3]) != 0;
    if (rule.how < kTokenMax || rule.how > kWeighted) throw Invalid("rule: an unknown aggregation");
    const auto weights = arrays.get<const float>(items[4], "rule weights");
    if (weights.rows < 1 || weights.rows > kModalities)
        throw Invalid("rule weights: expected 1 to " + std::to_string(kModalities));
    const auto scale = arrays.get<const float>(items[5], "rule scale", weights.rows);
    const auto null = arrays.get<const float>(items[6], "rule null", weights.rows, -1);
    check_query_tokens(null.columns);
    rule.n_modalities = static_cast<int>(weights.rows);
    rule.nq = static_cast<int>(null.columns);
    rule.null = null.data;
    for (int m = 0; m < rule.n_modalities; ++m) {
        rule.weights[m] = weights.data[m];
        rule.inverse_scale[m] = 1 / scale.data[m];
    }
    return rule;
}

Choice choice_of(Arrays &arrays, PyObject *keep, PyObject *only, const Layout &layout) {
    Choice out;
    if (keep != Py_None)
        out.keep = arrays.get<const uint8_t>(keep, "keep", layout.n_cells).data;
    if (only != Py_None) {
        const auto numbers = arrays.get<const int64_t>(only, "only");
        static const int64_t none = 0; // an empty array may have no address
        out.only = numbers.rows ? numbers.data : &none;
        out.n_only = numbers.rows;
    }
    return out;
}

void take_tokens(Arrays &arrays, PyObject *tuple, int n_modalities, Modalities &out) {
    const auto items = items_of(tuple, "tokens", n_modalities);
    for (int m = 0; m < n_modalities; ++m)
        if (items[m] != Py_None) out.tokens[m] = tokens_of(arrays, items[m], "tokens");
}

void take_queries(Arrays &arrays, PyObject *tuple, const Rule &rule, Modalities &out) {
    const auto items = items_of(tuple, "queries", rule.n_modalities);
    for (int m = 0; m < rule.n_modalities; ++m) {
        if (items[m] == Py_None) continue;
        out.queries[m] = query_of(arrays, items[m], "queries");
        if (out.queries[m].n != rule.nq)
            throw Invalid("queries: expected as many tokens as the rule has, " +
                          std::to_string(rule.nq) + ", got " + std::to_string(out.queries[m].n));
    }
}

void take_codes(Arrays &arrays, PyObject *tuple, int n_modalities, bool residuals,
                Modalities &out) {
    const auto items = items_of(tuple, "codes", n_modalities);
    for (int m = 0; m < n_modalities; ++m) {
        if (items[m] == Py_None) continue;
        const auto parts = items_of(items[m], "codes", 2);
        const auto centroid = arrays.get<const uint16_t>(parts[0], "codes.centroid");
        Codes &codes = out.codes[m];
        codes.centroid = centroid.data;
        codes.n = centroid.rows;
        if (!residuals) continue;
        const auto residual = arrays.get<const uint8_t>(parts[1], "codes.residual", codes.n, -1);
        if (residual.columns > kWidth / 4) throw Invalid("codes.residual: too wide");
        codes.residual = residual.data;
        codes.width = width_of(residual.columns * 4, "codes.residual");
    }
}

void take_books(Arrays &arrays, PyObject *tuple, int n_modalities, int nq, Modalities &out) {
    const auto items = items_of(tuple, "books", n_modalities);
    for (int m = 0; m < n_modalities; ++m) {
        if (items[m] == Py_None) continue;
        const auto parts = items_of(items[m], "books", 3);
        Book &book = out.books[m];
        const auto levels = arrays.get<const int8_t>(parts[0], "levels", 4);
        for (int i = 0; i < 4; ++i) book.levels[i] = levels.data[i];
        book.worth = number_of(parts[1]);
        const auto sims = arrays.get<const float>(parts[2], "sims", -1, nq);
        book.sims = sims.data;
        book.n = sims.rows;
    }
}

void take_lists(Arrays &arrays, PyObject *tuple, int n_modalities, Modalities &out) {
    const auto items = items_of(tuple, "lists", n_modalities);
    for (int m = 0; m < n_modalities; ++m) {
        if (items[m] == Py_None) continue;
        const auto parts = items_of(items[m], "lists", 3);
        const auto passages = arrays.get<const uint32_t>(parts[0], "lists.passages");
        const auto starts = arrays.get<const int64_t>(parts[1], "lists.starts");
        const auto active = arrays.get<const int64_t>(parts[2], "active");
        if (starts.rows < 1) throw Invalid("lists.starts: expected at least one number");
        out.lists[m] = {passages.data,   passages.rows, starts.data,
                        starts.rows - 1, active.data,   active.rows};
    }
}

void take_tables(Arrays &arrays, PyObject *tuple, int n_modalities, int nq, Modalities &out) {
    check_query_tokens(nq);
    const auto items = items_of(tuple, "tables", 3);
    const auto values = items_of(items[0], "tables.values", n_modalities);
    for (int m = 0; m < n_modalities; ++m) {
        if (values[m] == Py_None) continue;
        const auto table = arrays.get<const uint8_t>(values[m], "tables.values", -1, padded(nq));
        out.tables.of[m] = {table.data, table.rows};
    }
    out.tables.floor = arrays.get<const float>(items[1], "tables.floor", n_modalities, nq).data;
    out.tables.step = number_of(items[2]);
}

void check_widths(const Modalities &given, int n_modalities) {
    for (int m = 0; m < n_modalities; ++m) {
        const int width = given.queries[m].width;
        const int tokens = given.tokens[m].width, codes = given.codes[m].width;
        if (width && ((tokens && tokens != width) || (codes && codes != width)))
            throw Invalid("queries: expected the width of the tokens of their modality, " +
                          std::to_string(tokens ? tokens : codes) + ", got " + std::to_string(width));
    }
}

} // namespace mmr
