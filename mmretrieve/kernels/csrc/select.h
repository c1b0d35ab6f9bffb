// The best n of many scores. Included inside the namespace of a level.

constexpr int kStrip = 64;

// Numbers of scores of at least `bar`, ascending; only strips that have one are looked at closely.
inline void at_least(const float *scores, int64_t n, float bar, std::vector<int64_t> &found) {
    found.clear();
    int64_t i = 0;
    for (; i + kStrip <= n; i += kStrip) {
        int32_t any = 0;
        for (int j = 0; j < kStrip; ++j) any |= scores[i + j] >= bar ? -1 : 0;
        if (!any) continue;
        for (int j = 0; j < kStrip; ++j)
            if (scores[i + j] >= bar) found.push_back(i + j);
    }
    for (; i < n; ++i)
        if (scores[i] >= bar) found.push_back(i);
}

// A bar that about twice as many scores as wanted reach, from a sample; -inf when it cannot be told.
inline float guessed_bar(const float *scores, int64_t n, int64_t wanted) {
    constexpr int64_t kSample = 16384;
    if (n < 4 * kSample || wanted * 8 > n) return -INFINITY;
    std::vector<float> sample;
    sample.reserve(kSample);
    for (int64_t i = 0; i < kSample; ++i) {
        const float score = scores[part(i, n, kSample)];
        sample.push_back(score > -INFINITY ? score : -INFINITY); // not a number: never chosen
    }
    const int64_t place = wanted * kSample / n * 2 + 16;
    std::nth_element(sample.begin(), sample.begin() + place, sample.end(), std::greater<float>());
    return sample[static_cast<std::size_t>(place)];
}

// Keeps the best `wanted` of the numbers, ties to lower ones, in their order.
inline void keep_best(const float *scores, std::vector<int64_t> &numbers, int64_t wanted) {
    if (static_cast<int64_t>(numbers.size()) <= wanted) return;
    std::vector<float> values;
    values.reserve(numbers.size());
    for (int64_t i : numbers) values.push_back(scores[i]);
    std::nth_element(values.begin(), values.begin() + (wanted - 1), values.end(),
                     std::greater<float>());
    const float last = values[static_cast<std::size_t>(wanted - 1)];
    int64_t ties = wanted;
    for (int64_t i : numbers) ties -= scores[i] > last;
    std::size_t n = 0;
    for (int64_t i : numbers)
        if (scores[i] > last || (scores[i] == last && ties-- > 0)) numbers[n++] = i;
    numbers.resize(n);
}

static int64_t select(int, const float *scores, int64_t n, int64_t wanted, int64_t *out) {
    if (wanted <= 0 || n == 0) return 0;
    std::vector<int64_t> found;
    const float lowest = -std::numeric_limits<float>::max();
    const float bar = guessed_bar(scores, n, wanted);
    at_least(scores, n, bar > lowest ? bar : lowest, found);
    if (static_cast<int64_t>(found.size()) < wanted && bar > lowest)
        at_least(scores, n, lowest, found);
    keep_best(scores, found, wanted);
    std::copy(found.begin(), found.end(), out);
    return static_cast<int64_t>(found.size());
}
