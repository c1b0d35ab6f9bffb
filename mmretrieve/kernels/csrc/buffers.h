// Arrays handed over by Python: their pointers, once type, shape and order are what they should be.
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <cstdint>
#include <deque>
#include <string>
#include <type_traits>

#include "views.h"

namespace mmr {

// Python has set an exception.
struct PythonError {};

class Buffer {
  public:
    Buffer(PyObject *object, int flags) {
        if (PyObject_GetBuffer(object, &view, flags) != 0) throw PythonError{};
    }
    ~Buffer() { PyBuffer_Release(&view); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    Py_buffer view;
};

template <class T> struct Array {
    T *data;
    int64_t rows;
    int64_t columns; // 1 for an array of one dimension
};

// float16, which C++17 has no type for.
struct Half {
    uint16_t bits;
};

enum Kind { kSigned, kUnsigned, kFloat };

template <class T> constexpr Kind kind_of() {
    typedef typename std::remove_const<T>::type Plain;
    return std::is_same<Plain, Half>::value || std::is_floating_point<Plain>::value ? kFloat
           : std::is_signed<Plain>::value                                          ? kSigned
                                                                                   : kUnsigned;
}

// Holds the arrays of one call until it returns.
class Arrays {
  public:
    // The array, `rows` by `columns` or any number where these are negative; `columns` 0 asks for one
    // dimension. A T that is not const asks for an array that can be written to.
    template <class T>
    Array<T> get(PyObject *object, const char *name, int64_t rows = -1, int64_t columns = 0) {
        const int writable = std::is_const<T>::value ? 0 : PyBUF_WRITABLE;
        const Py_buffer &view = held(object, name, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | writable);
        const int n_dimensions = columns == 0 ? 1 : 2;
        check_type(view, name, kind_of<T>(), sizeof(T));
        if (view.ndim != n_dimensions)
            throw Invalid(std::string(name) + ": expected " + std::to_string(n_dimensions) +
                          " dimensions, got " + std::to_string(view.ndim));
        const int64_t found = n_dimensions == 2 ? view.shape[1] : 1;
        check_length(name, "rows", rows, view.shape[0]);
        if (n_dimensions == 2) check_length(name, "columns", columns, found);
        return {static_cast<T *>(view.buf), view.shape[0], found};
    }

    // Whether the array has elements of the type of T.
    template <class T> bool is(PyObject *object, const char *name) {
        const Py_buffer &view = held(object, name, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS);
        return kind(view) == kind_of<T>() && view.itemsize == static_cast<Py_ssize_t>(sizeof(T));
    }

  private:
    const Py_buffer &held(PyObject *object, const char *name, int flags);
    static int kind(const Py_buffer &view);
    static void check_type(const Py_buffer &view, const char *name, Kind wanted, std::size_t size);
    static void check_length(const char *name, const char *what, int64_t wanted, int64_t found);

    std::deque<Buffer> buffers_;
};

// Lets other Python threads run while it lives.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { PyEval_RestoreThread(state_); }
    WithoutGil(const WithoutGil &) = delete;
    WithoutGil &operator=(const WithoutGil &) = delete;

  private:
    PyThreadState *state_;
};

} // namespace mmr
