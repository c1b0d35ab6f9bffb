// Work in chunks that threads take one after the other. The caller is one of the threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace mmr {

class Chunks {
  public:
    explicit Chunks(int64_t n) : n_(n) {}

    // False when none is left, or another thread failed.
    bool next(int64_t &chunk) {
        chunk = taken_.fetch_add(1, std::memory_order_relaxed);
        return chunk < n_;
    }

    void fail(std::exception_ptr error) {
        taken_.store(n_, std::memory_order_relaxed);
        std::lock_guard<std::mutex> hold(mutex_);
        if (!error_) error_ = error;
    }

    void rethrow() {
        if (error_) std::rethrow_exception(error_);
    }

  private:
    std::atomic<int64_t> taken_{0};
    const int64_t n_;
    std::mutex mutex_;
    std::exception_ptr error_;
};

// Calls `body(chunks)` on each thread: it asks for chunks until there is none, and keeps what it
// needs to work with between them.
template <class Body> void parallel(int64_t n_chunks, int threads, const Body &body) {
    Chunks chunks(n_chunks);
    auto guarded = [&] {
        try {
            body(chunks);
        } catch (...) {
            chunks.fail(std::current_exception());
        }
    };
    std::vector<std::thread> others;
    const int64_t n_others = (n_chunks < threads ? n_chunks : threads) - 1;
    if (n_others > 0) others.reserve(static_cast<std::size_t>(n_others));
    try {
        for (int64_t i = 0; i < n_others; ++i) others.emplace_back(guarded);
    } catch (const std::system_error &) {
        // The system gives no more threads: those that run, and this one, do all chunks.
    }
    guarded();
    for (auto &other : others) other.join();
    chunks.rethrow();
}

// Chunk c of n items in `n_chunks` nearly equal parts.
inline int64_t part(int64_t c, int64_t n, int64_t n_chunks) {
    return n / n_chunks * c + (c < n % n_chunks ? c : n % n_chunks);
}

// Zeroed memory at a multiple of 64 bytes.
template <class T> class Aligned {
  public:
    explicit Aligned(std::size_t n = 0) : bytes_(n * sizeof(T) + 64) {
        const auto at = reinterpret_cast<std::uintptr_t>(bytes_.data());
        data_ = reinterpret_cast<T *>(bytes_.data() + (64 - at % 64) % 64);
    }
    Aligned(const Aligned &) = delete;
    Aligned &operator=(const Aligned &) = delete;
    Aligned(Aligned &&) = default;
    Aligned &operator=(Aligned &&) = default;

    T *get() { return data_; }
    const T *get() const { return data_; }

  private:
    std::vector<unsigned char> bytes_;
    T *data_;
};

} // namespace mmr
