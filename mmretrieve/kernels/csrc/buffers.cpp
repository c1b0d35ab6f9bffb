#include "buffers.h"

#include <cstring>

namespace mmr {

const Py_buffer &Arrays::held(PyObject *object, const char *name, int flags) {
    try {
        buffers_.emplace_back(object, flags);
    } catch (const PythonError &) {
        PyErr_Clear();
        const char *what = flags & PyBUF_WRITABLE ? "a writable" : "an";
        throw Invalid(std::string(name) + ": expected " + what +
                      " array whose elements lie one after the other (C order)");
    }
    const Py_buffer &view = buffers_.back().view;
    if (view.itemsize > 0 && reinterpret_cast<std::uintptr_t>(view.buf) %
                                     static_cast<std::uintptr_t>(view.itemsize) !=
                                 0)
        throw Invalid(std::string(name) + ": the array is not aligned to its elements");
    return view;
}

int Arrays::kind(const Py_buffer &view) {
    const char *format = view.format ? view.format : "B";
    const uint16_t one = 1;
    unsigned char first;
    std::memcpy(&first, &one, 1);
    if (*format == '@' || *format == '=' || *format == (first ? '<' : '>')) ++format;
    if (format[0] == '\0' || format[1] != '\0') return -1;
    if (std::strchr("bhilqn", *format)) return kSigned;
    if (std::strchr("?BHILQN", *format)) return kUnsigned;
    if (std::strchr("efd", *format)) return kFloat;
    return -1;
}

void Arrays::check_type(const Py_buffer &view, const char *name, Kind wanted, std::size_t size) {
    if (kind(view) == wanted && view.itemsize == static_cast<Py_ssize_t>(size)) return;
    const char *kinds[] = {"int", "uint", "float"};
    throw Invalid(std::string(name) + ": expected " + kinds[wanted] + std::to_string(size * 8) +
                  ", got items of " + std::to_string(view.itemsize * 8) + " bits and format '" +
                  (view.format ? view.format : "B") + "'");
}

void Arrays::check_length(const char *name, const char *what, int64_t wanted, int64_t found) {
    if (wanted >= 0 && wanted != found)
        throw Invalid(std::string(name) + ": expected " + std::to_string(wanted) + " " + what +
                      ", got " + std::to_string(found));
}

} // namespace mmr
