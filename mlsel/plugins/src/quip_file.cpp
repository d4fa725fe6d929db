#include "quip_file.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>

namespace {

using Attributes = std::map<std::string, std::string>;

[[noreturn]] void fail(const std::string &path, const std::string &what)
{
  throw std::runtime_error(path + ' ' + what);
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_name(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
      c == '-' || c == '.' || c == ':' || static_cast<unsigned char>(c) >= 0x80;
}

std::string read_whole(const std::string &path)
{
  std::ifstream stream(path, std::ios::binary);
  if (!stream) fail(path, "cannot be read: there is no such file, or it may not be opened");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

long whole_number(const std::string &path, const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  char *end = nullptr;
  const long value = std::strtol(found->second.c_str(), &end, 10);
  if (end == found->second.c_str() || *end || value < 1)
    fail(path, std::string("has ") + name + "=\"" + found->second + "\", not a positive number");
  return value;
}

void check_real(const std::string &path, const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  char *end = nullptr;
  std::strtod(found->second.c_str(), &end);
  if (end == found->second.c_str() || *end)
    fail(path, std::string("has ") + name + "=\"" + found->second + "\", not a number");
}

/// QUIP reads these files without looking at what it gets.
void check_sparse_points(const std::string &path, const std::string &name, long n_numbers)
{
  const auto slash = path.rfind('/');
  const std::string file = slash == std::string::npos ? name : path.substr(0, slash + 1) + name;
  const std::string text = read_whole(file);
  const char *at = text.c_str();
  long n = 0;
  for (;;) {
    char *end = nullptr;
    std::strtod(at, &end);
    if (end == at) break;
    at = end;
    ++n;
  }
  while (is_space(*at)) ++at;
  if (*at || at != text.c_str() + text.size())
    fail(file, "holds something that is no number after " + std::to_string(n) + " numbers");
  if (n != n_numbers)
    fail(file, "holds " + std::to_string(n) + " numbers, where " + path + " tells of " +
             std::to_string(n_numbers));
}

/// Atomic numbers in a descriptor's line: Z=11, Z1=…, Z2=…, species_Z={11 17}.
void collect_species(const std::string &line, std::set<int> &species)
{
  for (size_t at = line.find('Z'); at != std::string::npos; at = line.find('Z', at + 1)) {
    size_t value = at + 1;
    while (value < line.size() && line[value] >= '0' && line[value] <= '9') ++value;
    while (value < line.size() && is_space(line[value])) ++value;
    if (value >= line.size() || line[value] != '=') continue;
    const char *c = line.c_str() + value + 1;
    const bool many = *c == '{';
    if (many) ++c;
    for (;;) {
      char *end = nullptr;
      const long number = std::strtol(c, &end, 10);
      if (end == c) break;
      if (number > 0 && number < 200) species.insert(static_cast<int>(number));
      c = end;
      if (!many) break;
    }
  }
}

/// One pass over the elements: well-formed as far as we go, and what we look for noted down.
class Reader {
 public:
  Reader(const std::string &path, const std::string &text) : path_(path), text_(text) {}

  mlsel::QuipFile read()
  {
    bool any = false;
    while (at_ < text_.size()) {
      if (text_[at_] != '<') {
        read_text();
      } else if (starts("<!--")) {
        skip_past("-->");
      } else if (starts("<![CDATA[")) {
        skip_past("]]>");
      } else if (starts("<?")) {
        skip_past("?>");
      } else if (starts("<!")) {
        skip_past(">");
      } else if (starts("</")) {
        close();
      } else {
        if (any && open_.empty()) fail(path_, "is no XML: it has more than one outermost element");
        open();
        any = true;
      }
    }
    if (!open_.empty()) fail(path_, "ends inside <" + open_.back() + ">: it is cut off");
    if (!any) fail(path_, "is no XML: it has no element");
    finish_sparse();
    if (file_.labels.empty()) fail(path_, "has no <Potential label=…>: it is no potential of QUIP");
    return file_;
  }

 private:
  bool starts(const char *what) const { return text_.compare(at_, std::string(what).size(), what) == 0; }

  void skip_past(const char *what)
  {
    const size_t end = text_.find(what, at_);
    if (end == std::string::npos) fail(path_, std::string("is cut off: no ") + what + " follows");
    at_ = end + std::string(what).size();
  }

  void read_text()
  {
    const size_t end = std::min(text_.find('<', at_), text_.size());
    const std::string words = text_.substr(at_, end - at_);
    if (words.find('\0') != std::string::npos) fail(path_, "is no XML: it holds binary data");
    if (open_.empty()) {
      for (char c : words)
        if (!is_space(c)) fail(path_, "is no XML: it has text outside its elements");
    } else if (open_.back() == "descriptor") {
      collect_species(words, file_.species);
    }
    at_ = end;
  }

  std::string name()
  {
    const size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == start) fail(path_, "is no XML: no name follows a <");
    return text_.substr(start, at_ - start);
  }

  void spaces()
  {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  void close()
  {
    at_ += 2;
    const std::string tag = name();
    spaces();
    if (at_ >= text_.size() || text_[at_] != '>') fail(path_, "is no XML at </" + tag);
    ++at_;
    if (open_.empty() || open_.back() != tag)
      fail(path_, "is no XML: </" + tag + "> closes " +
               (open_.empty() ? std::string("nothing") : "<" + open_.back() + ">"));
    open_.pop_back();
  }

  void open()
  {
    ++at_;
    const std::string tag = name();
    Attributes attributes;
    for (;;) {
      spaces();
      if (at_ >= text_.size()) fail(path_, "is cut off inside <" + tag);
      if (text_[at_] == '>') {
        ++at_;
        open_.push_back(tag);
        break;
      }
      if (starts("/>")) {
        at_ += 2;
        break;
      }
      const std::string key = name();
      spaces();
      if (at_ >= text_.size() || text_[at_] != '=') fail(path_, "is no XML at <" + tag + " " + key);
      ++at_;
      spaces();
      const char quote = at_ < text_.size() ? text_[at_] : '\0';
      if (quote != '"' && quote != '\'') fail(path_, "is no XML at <" + tag + " " + key + "=");
      const size_t end = text_.find(quote, at_ + 1);
      if (end == std::string::npos) fail(path_, "is cut off inside <" + tag);
      attributes[key] = text_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    }
    element(tag, attributes);
  }

  void element(const std::string &tag, const Attributes &attributes)
  {
    if (tag == "Potential") {
      const auto label = attributes.find("label");
      if (label == attributes.end() || attributes.find("init_args") == attributes.end())
        fail(path_, "has a <Potential> without label and init_args");
      file_.labels.push_back(label->second);
    } else if (tag == "gpCoordinates") {
      finish_sparse();
      n_sparse_ = whole_number(path_, attributes, "n_sparseX");
      const long dimensions = whole_number(path_, attributes, "dimensions");
      const auto name = attributes.find("sparseX_filename");
      if (name != attributes.end())
        check_sparse_points(path_, name->second, n_sparse_ * dimensions);
    } else if (tag == "sparseX") {
      check_real(path_, attributes, "alpha");
      check_real(path_, attributes, "sparseCutoff");
      ++n_sparse_seen_;
    } else if (tag == "e0") {
      check_real(path_, attributes, "value");
    }
    const auto atomic = attributes.find("atomic_num");
    if (atomic != attributes.end()) file_.species.insert(std::atoi(atomic->second.c_str()));
  }

  void finish_sparse()
  {
    if (n_sparse_seen_ != n_sparse_)
      fail(path_, "has " + std::to_string(n_sparse_seen_) + " <sparseX> where n_sparseX says " +
               std::to_string(n_sparse_));
    n_sparse_ = n_sparse_seen_ = 0;
  }

  const std::string &path_;
  const std::string &text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  long n_sparse_ = 0, n_sparse_seen_ = 0;
  mlsel::QuipFile file_;
};

}    // namespace

namespace mlsel {

QuipFile read_quip_file(const std::string &path)
{
  const std::string text = read_whole(path);
  return Reader(path, text).read();
}

std::string quip_init_string(const QuipFile &file, const std::string &path,
                             const std::string &given)
{
  std::string known;
  for (const std::string &label : file.labels) known += (known.empty() ? "" : ", ") + label;
  std::string init = given;
  if (init.find_first_not_of(" \t") == std::string::npos) {
    if (file.labels.size() != 1)
      fail(path, "holds several potentials: name one of them, \"Potential xml_label=…\": " + known);
    return "Potential xml_label=" + file.labels.front();
  }
  const std::string key = "xml_label=";
  const size_t at = init.find(key);
  if (at == std::string::npos) {
    // "IP GAP" and the like: QUIP takes the label alone from this
    if (file.labels.size() == 1 && init.find("label=") == std::string::npos)
      init += " label=" + file.labels.front();
    return init;
  }
  size_t end = at + key.size();
  while (end < init.size() && !is_space(init[end])) ++end;
  const std::string label = init.substr(at + key.size(), end - at - key.size());
  for (const std::string &one : file.labels)
    if (one == label) return init;
  fail(path, "has no potential with xml_label=" + label + "; it has: " + known);
}

}    // namespace mlsel
