// From the tuples that kernels/native.py hands over to the structures of views.h.
#pragma once

#include <vector>

#include "buffers.h"

namespace mmr {

// The `n` items of a tuple, borrowed.
std::vector<PyObject *> items_of(PyObject *tuple, const char *name, Py_ssize_t n);

Tokens tokens_of(Arrays &arrays, PyObject *pair, const char *name);
Tokens query_of(Arrays &arrays, PyObject *pair, const char *name);
Vectors vectors_of(Arrays &arrays, PyObject *object);
Layout layout_of(Arrays &arrays, PyObject *tuple);
Rule rule_of(Arrays &arrays, PyObject *tuple);
Choice choice_of(Arrays &arrays, PyObject *keep, PyObject *only, const Layout &layout);

// Of all modalities; None stays empty.
struct Modalities {
    Tokens tokens[kModalities];
    Tokens queries[kModalities];
    Codes codes[kModalities];
    Book books[kModalities];
    Lists lists[kModalities];
    Tables tables;
};

void take_tokens(Arrays &arrays, PyObject *tuple, int n_modalities, Modalities &out);
void take_queries(Arrays &arrays, PyObject *tuple, const Rule &rule, Modalities &out);
void take_codes(Arrays &arrays, PyObject *tuple, int n_modalities, bool residuals, Modalities &out);
void take_books(Arrays &arrays, PyObject *tuple, int n_modalities, int nq, Modalities &out);
void take_lists(Arrays &arrays, PyObject *tuple, int n_modalities, Modalities &out);
void take_tables(Arrays &arrays, PyObject *tuple, int n_modalities, int nq, Modalities &out);

// Throws unless the tokens of each modality are as wide as its query.
void check_widths(const Modalities &given, int n_modalities);

} // namespace mmr
