// Extended XYZ, many frames at a time: frames that are written alike become arrays.
//
// Only what is surely read as ASE reads it is read here; a frame with anything else is named odd,
// and left to ASE. A frame's key holds all that it must share with others to stand in an array with
// them: the number of atoms, the names and kinds of its values, and, word by word, every value that
// is neither numbers nor plain text, every column of words, and the elements.

#include <charconv>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace {

constexpr std::size_t longest_text = 1 << 15;

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_printable(char c) { return c > ' ' && c <= '~'; }

/// Whether Python's int reads it and so does from_chars: digits and a sign, of 18 digits at most.
bool is_integer(std::string_view word) {
    if (!word.empty() && word[0] == '-') word.remove_prefix(1);
    if (word.empty() || word.size() > 18) return false;
    for (char c : word)
        if (!is_digit(c)) return false;
    return true;
}

/// A number as Python's float reads it; no "nan", "inf" or underscores, nothing beyond a double.
bool read_double(std::string_view word, double &value) {
    if (word.size() > 1 && word[0] == '+' && word[1] != '-') word.remove_prefix(1);
    for (char c : word)
        if (!is_digit(c) && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E') return false;
    const char *end = word.data() + word.size();
    auto [stop, error] = std::from_chars(word.data(), end, value);
    return error == std::errc() && stop == end && !word.empty();
}

/// The number that begins at `at`, which is moved to its end. Of a few digits it is a quotient of two
/// numbers that a double holds exactly, so that the division rounds it as it should be (Clinger 1990).
bool take_double(const char *&at, const char *end, double &value) {
    static constexpr double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                        1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
    const char *c = at;
    bool is_negative = c < end && *c == '-';
    if (is_negative) ++c;
    std::uint64_t digits = 0;
    const char *from = c;
    while (c < end && is_digit(*c)) digits = 10 * digits + static_cast<std::uint64_t>(*c++ - '0');
    std::ptrdiff_t n_digits = c - from, n_after = 0;
    if (c < end && *c == '.') {
        from = ++c;
        while (c < end && is_digit(*c))
            digits = 10 * digits + static_cast<std::uint64_t>(*c++ - '0');
        n_after = c - from;
        n_digits += n_after;
    }
    if (n_digits > 0 && n_digits <= 18 && digits <= std::uint64_t{1} << 53 &&
        (c == end || is_blank(*c))) {
        value = static_cast<double>(digits) / powers[n_after];
        if (is_negative) value = -value;
        at = c;
        return true;
    }
    while (c < end && is_printable(*c)) ++c;
    std::string_view word{at, static_cast<std::size_t>(c - at)};
    at = c;
    return (c == end || is_blank(*c)) && read_double(word, value);
}

bool read_int32(std::string_view word, std::int64_t &value) {
    if (!is_integer(word)) return false;
    std::from_chars(word.data(), word.data() + word.size(), value);
    return value >= INT32_MIN && value <= INT32_MAX;
}

/// The words of a text, between blanks or commas.
std::vector<std::string_view> parts_of(std::string_view text) {
    std::vector<std::string_view> parts;
    std::size_t at = 0;
    while (at < text.size()) {
        while (at < text.size() && (is_blank(text[at]) || text[at] == ',')) ++at;
        std::size_t from = at;
        while (at < text.size() && !is_blank(text[at]) && text[at] != ',') ++at;
        if (at > from) parts.push_back(text.substr(from, at - from));
    }
    return parts;
}

/// Whether a word can be no number and no truth value whatever reads it.
bool is_plain_word(std::string_view word) {
    if (!is_letter(word[0])) return false;
    std::string low;
    for (char c : word.substr(0, 5)) low += static_cast<char>(c | 0x20);
    return low.substr(0, 3) != "nan" && low.substr(0, 3) != "inf" && word != "T" && word != "F" &&
           low != "true" && low != "false";
}

/// A column of the body.
struct Column {
    char kind;        // R, I, S or L
    bool is_in_key;   // words, and whole numbers that ASE makes something else of
};

struct Frame {
    std::int64_t start, end, group;   // group −1: odd
};

struct Group {
    std::string key;
    std::int64_t n_doubles, n_integers, n_texts;   // a frame
    std::vector<std::int64_t> frames;
    std::vector<double> doubles;
    std::vector<std::int64_t> integers;
    std::vector<std::int64_t> texts;   // begin and end of each in what was scanned
};

class Scan {
public:
    Scan(const char *text, std::int64_t size, bool is_end)
        : text_(text), end_(text + size), is_end_(is_end) {
        const char *at = text;
        while (next(at)) {}
        consumed = at - text;
    }

    std::vector<Frame> frames;
    std::vector<Group> groups;
    std::int64_t consumed = 0;
    bool is_stuck = false;   // what follows has no known end: neither here nor with more text

private:
    /// The line at `at`, without its end; moves on. False if it is not whole.
    bool line(const char *&at, std::string_view &found) {
        const auto *stop = static_cast<const char *>(
            std::memchr(at, '\n', static_cast<std::size_t>(end_ - at)));
        if (!stop && !(is_end_ && at < end_)) return false;
        const char *end = stop ? stop : end_;
        std::size_t length = static_cast<std::size_t>(end - at);
        if (length && at[length - 1] == '\r' && stop) --length;
        found = {at, length};
        at = stop ? stop + 1 : end_;
        return true;
    }

    /// Take the frame at `at` and move on; false at the end of what is whole.
    bool next(const char *&at) {
        const char *here = at;
        std::string_view found;
        do {   // blank lines stand between frames
            if (!line(here, found)) {
                if (is_end_) at = end_;
                return false;
            }
            while (!found.empty() && is_blank(found.front())) found.remove_prefix(1);
            while (!found.empty() && is_blank(found.back())) found.remove_suffix(1);
        } while (found.empty());
        if (!is_integer(found) || found[0] == '-') return stuck();
        std::int64_t n_atoms = 0;
        std::from_chars(found.data(), found.data() + found.size(), n_atoms);
        if (n_atoms < 1) return stuck();
        const char *body = here, *after = here;
        bool is_whole = true;
        for (std::int64_t k = 0; k <= n_atoms && is_whole; ++k) is_whole = line(after, found);
        if (!is_whole) return is_end_ ? stuck() : false;
        for (const char *r = at; (r = static_cast<const char *>(std::memchr(
                                      r, '\r', static_cast<std::size_t>(after - r))));
             ++r)
            if (r + 1 == end_ || r[1] != '\n') return stuck();   // a line's end to Python
        frames.push_back({at - text_, after - text_, -1});
        if (header(body, n_atoms) && rows(body, n_atoms)) file();
        at = after;
        return true;
    }

    bool stuck() {
        is_stuck = true;
        return false;
    }

    /// Read a comment line into the key; false if it is odd.
    bool header(const char *&at, std::int64_t n_atoms) {
        std::string_view found;
        line(at, found);
        key_ = std::to_string(n_atoms);
        doubles_.clear();
        integers_.clear();
        texts_.clear();
        columns_.clear();
        const char *c = found.data(), *end = c + found.size();
        while (true) {
            while (c < end && is_blank(*c)) ++c;
            if (c == end) return !columns_.empty();
            const char *from = c;
            while (c < end && is_printable(*c) && !std::strchr("=\"'{}[]\\,", *c)) ++c;
            std::string_view name{from, static_cast<std::size_t>(c - from)};
            if (c == end || *c != '=' || name.empty()) return false;
            bool is_quoted = ++c < end && *c == '"';
            if (is_quoted) ++c;
            from = c;
            if (is_quoted)
                while (c < end && (is_printable(*c) || is_blank(*c)) &&
                       !std::strchr("=\"\\", *c))
                    ++c;
            else
                while (c < end && is_printable(*c) && !std::strchr("=\"'{}[]\\", *c)) ++c;
            std::string_view value{from, static_cast<std::size_t>(c - from)};
            if (value.empty() || (is_quoted && (c == end || *c++ != '"'))) return false;
            if (c < end && !is_blank(*c)) return false;
            if (!keep(name, value)) return false;
        }
    }

    /// Put a value of the header where it belongs.
    bool keep(std::string_view name, std::string_view value) {
        char kind = 'L';
        std::size_t count = 0, n_doubles = doubles_.size();
        auto parts = parts_of(value);
        if (parts.empty()) return false;
        bool has_comma = value.find(',') != std::string_view::npos;
        if (name == "Properties") {
            if (!columns_.empty() || !properties(value)) return false;
        } else if (name.size() == 3 && (name[0] | 0x20) == 'u' && (name[1] | 0x20) == 'i' &&
                   (name[2] | 0x20) == 'd') {
            kind = 'T';   // ASE leaves it a text, whatever it holds
        } else if (name != "pbc" && !has_comma) {
            count = parts.size();
            bool are_integers = true, are_numbers = true;
            for (auto part : parts) are_integers = are_integers && is_integer(part);
            if (are_integers) {
                kind = 'I';
                for (auto part : parts) {
                    std::int64_t number = 0;
                    std::from_chars(part.data(), part.data() + part.size(), number);
                    integers_.push_back(number);
                }
            } else {
                for (auto part : parts) {
                    double number = 0;
                    are_numbers = are_numbers && part[0] != '+' && read_double(part, number);
                    doubles_.push_back(number);
                }
                if (are_numbers)
                    kind = 'F';
                else
                    doubles_.resize(n_doubles);
            }
        }
        if (kind == 'L' && name != "Properties" && name != "pbc" && value[0] != '_') {
            bool is_plain = false;
            for (auto part : parts) is_plain = is_plain || is_plain_word(part);
            if (is_plain) kind = 'T';
        }
        if (kind == 'T') {
            if (value.size() > longest_text) return false;
            texts_.push_back(value.data() - text_);
            texts_.push_back(value.data() + value.size() - text_);
        }
        key_ += '\n';
        key_ += kind;
        if (kind == 'I' || kind == 'F') key_ += std::to_string(count);
        key_ += ' ';
        key_ += name;
        if (kind == 'L') {
            key_ += '=';
            key_ += value;
        }
        return true;
    }

    bool properties(std::string_view value) {
        std::vector<std::string_view> fields;
        for (std::size_t at = 0;;) {
            std::size_t stop = value.find(':', at);
            fields.push_back(value.substr(at, stop - at));
            if (stop == std::string_view::npos) break;
            at = stop + 1;
        }
        if (fields.size() % 3) return false;
        for (std::size_t k = 0; k < fields.size(); k += 3) {
            auto name = fields[k], kind = fields[k + 1], count = fields[k + 2];
            if (kind.size() != 1 || !std::strchr("RISL", kind[0]) || count.size() > 3 ||
                !is_integer(count) || count[0] == '-' || count[0] == '0')
                return false;
            int n = 0;
            std::from_chars(count.data(), count.data() + count.size(), n);
            bool is_word = kind[0] == 'S' || kind[0] == 'L' || name == "Z" || name == "numbers" ||
                           name == "move_mask";
            for (int c = 0; c < n; ++c) columns_.push_back({kind[0], is_word});
        }
        return !columns_.empty();
    }

    /// Read the lines of the atoms; false if one is odd.
    bool rows(const char *at, std::int64_t n_atoms) {
        key_ += '\n';
        for (std::int64_t k = 0; k < n_atoms; ++k) {
            std::string_view found;
            line(at, found);
            const char *c = found.data(), *end = c + found.size();
            for (const Column &column : columns_) {
                while (c < end && is_blank(*c)) ++c;
                if (column.kind == 'R' && !column.is_in_key) {
                    double number = 0;
                    if (!take_double(c, end, number)) return false;
                    doubles_.push_back(number);
                    continue;
                }
                const char *from = c;
                while (c < end && is_printable(*c)) ++c;
                std::string_view word{from, static_cast<std::size_t>(c - from)};
                if (word.empty() || (c < end && !is_blank(*c))) return false;
                if (column.is_in_key) {
                    std::int64_t number = 0;
                    if (column.kind == 'I' && !read_int32(word, number)) return false;
                    double real = 0;
                    if (column.kind == 'R' && !read_double(word, real)) return false;
                    key_ += word;
                    key_ += ' ';
                } else {
                    std::int64_t number = 0;
                    if (!read_int32(word, number)) return false;
                    integers_.push_back(number);
                }
            }
            while (c < end && is_blank(*c)) ++c;
            if (c != end) return false;
        }
        return true;
    }

    /// Put the frame that was read with those of its key.
    void file() {
        auto [at, is_new] = group_of_.try_emplace(key_, static_cast<std::int64_t>(groups.size()));
        if (is_new)
            groups.push_back({key_, static_cast<std::int64_t>(doubles_.size()),
                              static_cast<std::int64_t>(integers_.size()),
                              static_cast<std::int64_t>(texts_.size() / 2), {}, {}, {}, {}});
        Group &group = groups[static_cast<std::size_t>(at->second)];
        if (is_new && groups.size() <= 8) {   // room for as many as the text may hold
            auto length = static_cast<std::size_t>(frames.back().end - frames.back().start);
            auto left = static_cast<std::size_t>(end_ - text_ - frames.back().start);
            group.doubles.reserve(doubles_.size() * (left / length + 1));
        }
        group.frames.push_back(static_cast<std::int64_t>(frames.size()) - 1);
        group.doubles.insert(group.doubles.end(), doubles_.begin(), doubles_.end());
        group.integers.insert(group.integers.end(), integers_.begin(), integers_.end());
        group.texts.insert(group.texts.end(), texts_.begin(), texts_.end());
        frames.back().group = at->second;
    }

    const char *text_, *end_;
    bool is_end_;
    std::string key_;
    std::vector<double> doubles_;
    std::vector<std::int64_t> integers_, texts_;
    std::vector<Column> columns_;
    std::unordered_map<std::string, std::int64_t> group_of_;
};

}   // namespace

extern "C" {

/// Read what is whole of a text. Returns what extxyz_free takes, null without memory.
/// found: frames, groups, bytes consumed, whether what follows is stuck, the address of (frames, 3)
/// numbers: begin, end, group.
void *extxyz_scan(const char *text, std::int64_t size, std::int64_t is_end, std::int64_t *found) {
    static_assert(sizeof(Frame) == 3 * sizeof(std::int64_t));
    try {
        auto *scan = new Scan(text, size, is_end != 0);
        found[0] = static_cast<std::int64_t>(scan->frames.size());
        found[1] = static_cast<std::int64_t>(scan->groups.size());
        found[2] = scan->consumed;
        found[3] = scan->is_stuck;
        found[4] = reinterpret_cast<std::int64_t>(scan->frames.data());
        return scan;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

/// found: frames, and of each the doubles, integers and texts; then pairs of address and length of
/// the key, the frames' places, doubles, integers and texts.
void extxyz_group(const void *handle, std::int64_t index, std::int64_t *found) {
    const Group &group = static_cast<const Scan *>(handle)->groups[static_cast<std::size_t>(index)];
    *found++ = static_cast<std::int64_t>(group.frames.size());
    *found++ = group.n_doubles;
    *found++ = group.n_integers;
    *found++ = group.n_texts;
    auto tell = [&](const auto &values) {
        *found++ = reinterpret_cast<std::int64_t>(values.data());
        *found++ = static_cast<std::int64_t>(values.size());
    };
    tell(group.key);
    tell(group.frames);
    tell(group.doubles);
    tell(group.integers);
    tell(group.texts);
}

void extxyz_free(void *handle) { delete static_cast<Scan *>(handle); }
}
