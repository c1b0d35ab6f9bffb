// Which cells belong to which document. Included inside the namespace of a level.
//
// A Scan has: Best, the running maxima of a document, with clear(scan) and copy(other, scan); used[m],
// whether cells of a modality take part, and n_tokens[m]; cell(m, begin, count, best), which takes
// tokens in; and finish(best), the score.

struct Cell {
    int modality;
    int64_t begin;
    int64_t count;
};

template <class Scan> class Documents {
  public:
    Documents(const Layout &layout, const uint8_t *keep, Scan &scan)
        : layout_(layout), keep_(keep), scan_(scan) {}

    float video(int64_t v) {
        set_range(v);
        best_.clear(scan_);
        bool any = false;
        for (int64_t p = first_; p < end_; ++p) any |= add(p, best_);
        return any ? scan_.finish(best_) : -INFINITY;
    }

    // Makes `v` the video whose passages are asked for: its metadata is scored once.
    void enter(int64_t v) {
        set_range(v);
        any_timed_ = kUnknown;
        shared_.clear(scan_);
        any_shared_ = layout_.timeless[first_] != 0 && add(first_, shared_);
    }

    bool holds(int64_t p) const { return first_ <= p && p < end_; }

    float passage(int64_t p) {
        if (layout_.timeless[p] == 0) {
            best_.copy(shared_, scan_);
            return add(p, best_) ? scan_.finish(best_) : -INFINITY;
        }
        if (any_timed()) return -INFINITY;
        if (p == first_) return any_shared_ ? scan_.finish(shared_) : -INFINITY;
        best_.clear(scan_);
        return add(p, best_) ? scan_.finish(best_) : -INFINITY;
    }

    int64_t first() const { return first_; }
    int64_t end() const { return end_; }

  private:
    enum { kUnknown, kNo, kYes };

    void set_range(int64_t v) {
        first_ = layout_.videos[v];
        end_ = layout_.videos[v + 1];
        if (first_ < 0 || first_ >= end_ || end_ > layout_.n_passages) {
            end_ = first_;
            throw Invalid("layout: videos must begin at ascending passages, each owning at least one");
        }
    }

    // Whether cell c takes part.
    bool part(int64_t c, Cell &cell) const {
        cell.modality = layout_.modality[c];
        if (cell.modality >= scan_.n_modalities) throw Invalid("layout: a modality out of range");
        if (!scan_.used[cell.modality] || (keep_ && !keep_[c])) return false;
        cell.begin = layout_.begin[c];
        cell.count = layout_.count[c];
        if (cell.count == 0) return false;
        const int64_t n = scan_.n_tokens[cell.modality];
        if (cell.begin < 0 || cell.count < 0 || cell.begin > n - cell.count)
            throw Invalid("layout: a cell's tokens lie outside of its modality's");
        return true;
    }

    bool add(int64_t p, typename Scan::Best &best) {
        const int64_t end = cells_end(p);
        bool any = false;
        Cell cell;
        for (int64_t c = layout_.passages[p]; c < end; ++c)
            if (part(c, cell)) {
                scan_.cell(cell.modality, cell.begin, cell.count, best);
                any = true;
            }
        return any;
    }

    int64_t cells_end(int64_t p) const {
        const int64_t begin = layout_.passages[p], end = layout_.passages[p + 1];
        if (begin < 0 || begin > end || end > layout_.n_cells)
            throw Invalid("layout: passages must begin at ascending cells");
        return end;
    }

    bool any_timed() {
        Cell cell;
        for (int64_t p = first_; p < end_ && any_timed_ == kUnknown; ++p) {
            if (layout_.timeless[p]) continue;
            const int64_t end = cells_end(p);
            for (int64_t c = layout_.passages[p]; c < end; ++c)
                if (part(c, cell)) any_timed_ = kYes;
        }
        if (any_timed_ == kUnknown) any_timed_ = kNo;
        return any_timed_ == kYes;
    }

    const Layout &layout_;
    const uint8_t *keep_;
    Scan &scan_;
    typename Scan::Best best_, shared_;
    int64_t first_ = 0, end_ = 0;
    bool any_shared_ = false;
    int any_timed_ = kUnknown;
};

// Documents [begin, end) of `only`, or all documents of videos [begin, end).
template <class Scan>
void score_part(Documents<Scan> &documents, const Layout &layout, const Choice &choice,
                bool by_video, int64_t begin, int64_t end, float *out) {
    for (int64_t i = begin; i < end; ++i) {
        if (choice.only) {
            const int64_t d = choice.only[i];
            if (d < 0 || d >= (by_video ? layout.n_videos : layout.n_passages))
                throw Invalid("only: a document number out of range");
            if (by_video) {
                out[i] = documents.video(d);
                continue;
            }
            if (!documents.holds(d)) {
                const int64_t *from = layout.videos, *to = from + layout.n_videos + 1;
                const int64_t v = std::upper_bound(from, to, d) - from - 1;
                if (v < 0 || v >= layout.n_videos) throw Invalid("layout: videos are not ascending");
                documents.enter(v);
                if (!documents.holds(d)) throw Invalid("layout: videos are not ascending");
            }
            out[i] = documents.passage(d);
        } else if (by_video) {
            out[i] = documents.video(i);
        } else {
            documents.enter(i);
            for (int64_t p = documents.first(); p < documents.end(); ++p)
                out[p] = documents.passage(p);
        }
    }
}

// `Inputs` makes a Scan, one for each thread.
template <class Scan, class Inputs>
void score_documents(int threads, const Layout &layout, const Choice &choice, bool by_video,
                     const Inputs &inputs, float *out) {
    const int64_t n = choice.only ? choice.n_only : layout.n_videos;
    const int64_t most = threads > 1 ? int64_t{threads} * 16 : 1;
    const int64_t n_chunks = n < most ? n : most;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        Scan scan(inputs);
        Documents<Scan> documents(layout, choice.keep, scan);
        for (int64_t c; chunks.next(c);)
            score_part(documents, layout, choice, by_video, part(c, n, n_chunks),
                       part(c + 1, n, n_chunks), out);
    });
}
