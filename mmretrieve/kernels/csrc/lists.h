// Scores from inverted lists. Included inside the namespace of a level.
//
// Passages are worked off in blocks of whole videos whose rows of bytes stay in the cache, each list
// being read from where the block before ended; a flag for every 32 rows says whether any was touched.

constexpr int64_t kBlockBytes = 1 << 20;
constexpr int kFlagged = 32;

struct ListInputs {
    const Layout &layout;
    const Lists *lists;
    const Tables &tables;
    int n_modalities;
    bool by_video;
    const uint8_t *keep;
    std::vector<int64_t> blocks; // the videos at which blocks begin, and their number
};

struct Cursor {
    const uint32_t *at, *end;
    const uint8_t *row;
};

template <int G> class ListBlocks {
  public:
    ListBlocks(const ListInputs &inputs, int64_t first_passage) : in_(inputs) {
        for (int m = 0; m < in_.n_modalities; ++m) {
            const Lists &lists = in_.lists[m];
            if (!lists.passages || !in_.tables.of[m].values) continue;
            for (int64_t i = 0; i < lists.n_active; ++i) add_list(m, lists.active[i], first_passage);
        }
    }

    // Scores of the documents of videos [begin, end).
    void score(int64_t begin, int64_t end, float *out) {
        first_ = in_.layout.videos[begin];
        n_ = in_.layout.videos[end] - first_;
        if (capacity_ < n_) {
            rows_ = Aligned<uint8_t>(static_cast<std::size_t>(n_) * kRow);
            capacity_ = n_;
        }
        flags_.assign(static_cast<std::size_t>(n_ / kFlagged + 1), 0);
        for (Cursor &cursor : cursors_) read(cursor);
        for (int64_t v = begin; v < end; ++v) {
            const int64_t from = in_.layout.videos[v] - first_, to = in_.layout.videos[v + 1] - first_;
            if (in_.by_video)
                out[v] = video(from, to);
            else
                passages(from, to, out + first_);
        }
        for (std::size_t f = 0; f < flags_.size(); ++f) clear(static_cast<int64_t>(f));
    }

    // After the last block of all.
    void check_all_read() const {
        for (const Cursor &cursor : cursors_)
            if (cursor.at != cursor.end) throw Invalid("lists: a passage beyond those of the layout");
    }

  private:
    static constexpr int kRow = G * 16;

    void add_list(int m, int64_t c, int64_t first_passage) {
        const Lists &lists = in_.lists[m];
        if (c < 0 || c >= lists.n_centroids || c >= in_.tables.of[m].n)
            throw Invalid("active: a centroid out of range");
        const int64_t begin = lists.starts[c], end = lists.starts[c + 1];
        if (begin < 0 || begin > end || end > lists.n_postings)
            throw Invalid("lists: starts must ascend within the passages");
        const uint32_t *from = lists.passages + begin, *to = lists.passages + end;
        if (from != to)
            cursors_.push_back({std::lower_bound(from, to, first_passage), to,
                                in_.tables.of[m].values + c * kRow});
    }

    void read(Cursor &cursor) {
        Row<G> named;
        named.load(cursor.row);
        const int64_t n = n_, first = first_;
        uint8_t *rows = rows_.get();
        uint8_t *flags = flags_.data();
        const uint32_t *at = cursor.at;
        for (; at != cursor.end; ++at) {
            const int64_t p = static_cast<int64_t>(*at) - first;
            if (p >= n) break;
            if (p < 0) throw Invalid("lists: passages of a centroid must ascend");
            Row<G> row = named;
            row.larger(rows + p * kRow);
            row.store(rows + p * kRow);
            flags[p / kFlagged] = 1;
        }
        cursor.at = at;
    }

    bool touched(int64_t p) const { return flags_[static_cast<std::size_t>(p / kFlagged)] != 0; }
    bool kept(int64_t p) const { return !in_.keep || in_.keep[first_ + p] != 0; }

    float video(int64_t from, int64_t to) const {
        Row<G> best;
        best.clear();
        for (int64_t p = from; p < to; ++p)
            if (touched(p) && kept(p)) best.larger(rows_.get() + p * kRow);
        return static_cast<float>(best.sum());
    }

    void passages(int64_t from, int64_t to, float *out) const {
        Row<G> shared;
        shared.clear();
        if (in_.layout.timeless[first_ + from] && touched(from) && kept(from))
            shared.load(rows_.get() + from * kRow);
        const float alone = static_cast<float>(shared.sum());
        for (int64_t p = from; p < to; ++p) {
            if (!kept(p)) {
                out[p] = 0;
            } else if (touched(p)) {
                Row<G> row = shared;
                row.larger(rows_.get() + p * kRow);
                out[p] = static_cast<float>(row.sum());
            } else {
                out[p] = alone;
            }
        }
    }

    void clear(int64_t flag) {
        if (!flags_[static_cast<std::size_t>(flag)]) return;
        const int64_t from = flag * kFlagged, to = from + kFlagged < n_ ? from + kFlagged : n_;
        std::memset(rows_.get() + from * kRow, 0, static_cast<std::size_t>(to - from) * kRow);
    }

    const ListInputs &in_;
    std::vector<Cursor> cursors_;
    Aligned<uint8_t> rows_; // zero between blocks
    std::vector<uint8_t> flags_;
    int64_t first_ = 0, n_ = 0, capacity_ = 0;
};

// Videos at which blocks of about `size` passages begin.
inline std::vector<int64_t> blocks_of(const Layout &layout, int64_t size) {
    std::vector<int64_t> blocks{0};
    int64_t begin = 0;
    for (int64_t v = 0; v < layout.n_videos; ++v) {
        const int64_t from = layout.videos[v], to = layout.videos[v + 1];
        if (from < 0 || from >= to || to > layout.n_passages)
            throw Invalid("layout: videos must begin at ascending passages, each owning at least one");
        if (to - begin > size && v > blocks.back()) {
            blocks.push_back(v);
            begin = from;
        }
    }
    if (layout.n_videos) blocks.push_back(layout.n_videos);
    return blocks;
}

template <int G> void score_lists_of(int threads, const ListInputs &inputs, float *out) {
    const int64_t n_blocks = static_cast<int64_t>(inputs.blocks.size()) - 1;
    const int64_t n_chunks = n_blocks < threads ? n_blocks : threads;
    parallel(n_chunks, threads, [&](Chunks &chunks) {
        for (int64_t c; chunks.next(c);) {
            const int64_t *block = inputs.blocks.data() + part(c, n_blocks, n_chunks);
            const int64_t *end = inputs.blocks.data() + part(c + 1, n_blocks, n_chunks);
            ListBlocks<G> blocks(inputs, inputs.layout.videos[*block]);
            for (; block != end; ++block) blocks.score(block[0], block[1], out);
            if (c + 1 == n_chunks) blocks.check_all_read();
        }
    });
}

static void score_lists(int threads, const Layout &layout, const Lists *lists, const Tables &tables,
                        int n_modalities, int nq, bool by_video, const uint8_t *keep, float *out) {
    const int groups = padded(nq) / kGroup;
    const ListInputs inputs{layout,   lists, tables, n_modalities,
                            by_video, keep,  blocks_of(layout, kBlockBytes / (groups * kGroup))};
    switch (groups) {
    case 1: return score_lists_of<1>(threads, inputs, out);
    case 2: return score_lists_of<2>(threads, inputs, out);
    case 3: return score_lists_of<3>(threads, inputs, out);
    default: return score_lists_of<4>(threads, inputs, out);
    }
}
