// Similarities to values to scores, in the same order of operations at every level. Included inside
// the namespace of a level. Columns beyond nq hold 0 throughout.

struct Maxima {
    alignas(64) float of[kModalities][kQueryTokens];
    uint32_t present;

    template <class Scan> void clear(const Scan &) { present = 0; }

    template <class Scan> void copy(const Maxima &other, const Scan &scan) {
        present = other.present;
        for (int m = 0; m < scan.n_modalities; ++m)
            if (present >> m & 1)
                std::memcpy(of[m], other.of[m], sizeof(float) * static_cast<std::size_t>(scan.n16));
    }

    float *row(int m, int nq, int n16) {
        if (!(present >> m & 1)) {
            present |= 1u << m;
            for (int q = 0; q < n16; ++q) of[m][q] = q < nq ? -INFINITY : 0;
        }
        return of[m];
    }
};

inline void sharpen(float *__restrict values, int n, float power) {
    if (power == 3.0f)
        for (int q = 0; q < n; ++q) values[q] = values[q] * values[q] * values[q];
    else if (power == 2.0f)
        for (int q = 0; q < n; ++q) values[q] = values[q] * std::fabs(values[q]);
    else if (power != 1.0f)
        for (int q = 0; q < n; ++q)
            values[q] = values[q] == 0 ? 0 : std::copysign(std::pow(std::fabs(values[q]), power), values[q]);
}

// What similarities in modality m are worth, its weight not included: see scoring.aggregation.
inline void evidence(const float *sims, const Rule &rule, int m, float *__restrict values) {
    const float *null = rule.null + int64_t{m} * rule.nq;
    const float inverse = rule.inverse_scale[m];
    const int nq = rule.nq;
    for (int q = 0; q < nq; ++q) values[q] = (sims[q] - null[q]) * inverse;
    if (rule.centre)
        for (int q = 0; q < nq; ++q) values[q] = values[q] > 0 ? values[q] : 0;
    sharpen(values, nq, rule.power);
}

// Sums of every 16th value, then the sum of these: compilers vectorise it without changing it.
inline float ordered_sum(const float *values, int n16) {
    float lanes[kGroup] = {};
    for (int g = 0; g < n16; g += kGroup)
        for (int i = 0; i < kGroup; ++i) lanes[i] += values[g + i];
    for (int half = kGroup / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

inline float token_max(const Maxima &found, const Rule &rule, int n16) {
    const int nq = rule.nq;
    alignas(64) float values[kQueryTokens] = {}, best[kQueryTokens];
    for (int q = 0; q < n16; ++q) best[q] = q < rule.nq ? -INFINITY : 0;
    for (int m = 0; m < rule.n_modalities; ++m) {
        if (!(found.present >> m & 1)) continue;
        evidence(found.of[m], rule, m, values);
        const float weight = rule.weights[m];
        for (int q = 0; q < nq; ++q) {
            const float value = values[q] * weight;
            best[q] = value > best[q] ? value : best[q];
        }
    }
    return ordered_sum(best, n16) / static_cast<float>(rule.nq);
}

// Of the means of modalities: the largest weighted one, or their weighted mean.
class Means {
  public:
    void add(float mean, float weight) {
        const float value = mean * weight;
        largest_ = value > largest_ ? value : largest_;
        sum_ += value;
        weights_ += weight;
    }
    float score(int how) const { return how == kModalityMax ? largest_ : sum_ / weights_; }

  private:
    float largest_ = -INFINITY, sum_ = 0, weights_ = 0;
};

inline float score_of(const Maxima &found, const Rule &rule, int n16) {
    if (rule.how == kTokenMax) return token_max(found, rule, n16);
    alignas(64) float values[kQueryTokens] = {};
    Means means;
    for (int m = 0; m < rule.n_modalities; ++m) {
        if (!(found.present >> m & 1)) continue;
        evidence(found.of[m], rule, m, values);
        means.add(ordered_sum(values, n16) / static_cast<float>(rule.nq), rule.weights[m]);
    }
    return means.score(rule.how);
}
