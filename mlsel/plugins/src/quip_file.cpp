#include "quip_file.h"

#include <algorithm>
#include <cstdlib>

#include "gap_words.h"
#include "gap_reader.h"
#include "glue_reader.h"
#include "xml_reader.h"

namespace {

using mlsel::Attributes;
using mlsel::fail;
using mlsel::is_space;

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
  const std::string file = mlsel::beside(path, name);
  const std::string text = mlsel::read_whole(file);
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
    fail(file,
         "holds " + std::to_string(n) + " numbers, where " + path + " tells of " +
             std::to_string(n_numbers));
}

/// Atomic numbers in a descriptor's line: Z=11, Z1=…, Z2=…, species_Z={11 17}. A line that names
/// none, or 0, is of any element.
bool collect_species(const std::string &line, std::set<int> &species)
{
  bool names_some = false;
  for (size_t at = line.find('Z'); at != std::string::npos; at = line.find('Z', at + 1)) {
    if (at >= 2 && line.compare(at - 2, 2, "n_") == 0) continue;
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
      if (number < 1 || number >= 200) return false;
      names_some = true;
      species.insert(static_cast<int>(number));
      c = end;
      if (!many) break;
    }
  }
  return names_some;
}

/// What QUIP's interface for LAMMPS needs: descriptors that each belong to one atom, whose process
/// evaluates it. Empty, or the descriptor that is none of them.
std::string not_shared_out(const std::string &line)
{
  static const std::set<std::string> OF_ONE_ATOM = {
      "soap", "soap_turbo", "distance_2b", "angle_3b",       "coordination", "cosnx",
      "rdf",  "behler",     "power_so3",   "bispectrum_so4", "alex"};
  std::string compact;    // without the blanks around =
  for (const std::string &word : mlsel::words(line)) {
    const bool joins = word.front() == '=' || (!compact.empty() && compact.back() == '=');
    compact += (compact.empty() || joins ? "" : " ") + word;
  }
  const std::vector<std::string> all = mlsel::words(compact);
  if (all.empty()) return "";
  const auto has = [&all](const char *word) {
    return std::find(all.begin(), all.end(), word) != all.end();
  };
  if (has("average=T")) return all.front() + " average=T";
  if (all.front() == "distance_Nb") {
    if (has("order=1") || has("order=2")) return "";
    for (const std::string &word : all)
      if (word.rfind("order=", 0) == 0) return "distance_Nb " + word;
    return "distance_Nb";
  }
  return OF_ONE_ATOM.count(all.front()) ? "" : all.front();
}

/// Notes down what QUIP's library and its interface need.
class QuipReader : public mlsel::XmlHandler {
 public:
  explicit QuipReader(mlsel::QuipFile &file) : file_(file), path_(file.path) {}

  /// Sparse points that somebody else reads need not be checked.
  bool are_points_read = false;

  void text(const std::string &tag, std::string_view words) override
  {
    if (tag == "descriptor") line_ += words;
  }

  void opened(const std::string &tag, const Attributes &attributes) override
  {
    if (tag == "Potential") {
      const auto label = attributes.find("label"), init = attributes.find("init_args");
      if (label == attributes.end() || init == attributes.end())
        fail(path_, "has a <Potential> without label and init_args");
      file_.potentials.push_back({label->second, init->second});
    } else if (tag == "gpCoordinates") {
      finish_sparse();
      n_sparse_ = whole_number(path_, attributes, "n_sparseX");
      const long dimensions = whole_number(path_, attributes, "dimensions");
      const auto name = attributes.find("sparseX_filename");
      if (name != attributes.end() && !are_points_read)
        check_sparse_points(path_, name->second, n_sparse_ * dimensions);
    } else if (tag == "sparseX") {
      check_real(path_, attributes, "alpha");
      check_real(path_, attributes, "sparseCutoff");
      ++n_sparse_seen_;
    } else if (tag == "e0") {
      check_real(path_, attributes, "value");
    } else if (tag == "descriptor") {
      line_.clear();
    } else if (tag.size() > 7 && tag.compare(tag.size() - 7, 7, "_params") == 0) {
      file_.parameters.push_back(tag);
      const auto label = attributes.find("label");
      if (tag == "GAP_params") file_.gaps.push_back(label == attributes.end() ? "" : label->second);
    }
    const auto atomic = attributes.find("atomic_num");
    if (atomic != attributes.end()) file_.species.insert(std::atoi(atomic->second.c_str()));
  }

  void closed(const std::string &tag) override
  {
    if (tag != "descriptor") return;
    if (!collect_species(line_, file_.species)) is_for_any_ = true;
    if (file_.unshared.empty()) file_.unshared = not_shared_out(line_);
  }

  void finish()
  {
    finish_sparse();
    if (is_for_any_) file_.species.clear();
    if (file_.potentials.empty() && file_.parameters.empty())
      fail(path_,
           "has no <Potential label=…> and no parameters of one: it is no potential of QUIP");
  }

 private:
  void finish_sparse()
  {
    if (n_sparse_seen_ != n_sparse_)
      fail(path_,
           "has " + std::to_string(n_sparse_seen_) + " <sparseX> where n_sparseX says " +
               std::to_string(n_sparse_));
    n_sparse_ = n_sparse_seen_ = 0;
  }

  mlsel::QuipFile &file_;
  const std::string &path_;
  std::string line_;
  long n_sparse_ = 0, n_sparse_seen_ = 0;
  bool is_for_any_ = false;
};

/// A part that we may evaluate ourselves, read until it turns out that we cannot.
template <typename Part> class Attempt {
 public:
  Attempt(const std::string &path, std::string &reason)
      : part_(std::in_place, path), reason_(reason)
  {
  }
  bool goes_on() const { return part_.has_value(); }
  void give_up() { part_.reset(); }
  template <typename Call> void with(Call call)
  {
    if (!part_) return;
    try {
      call(*part_);
    } catch (const mlsel::NotCovered &exception) {
      reason_ = exception.what();
      part_.reset();
    }
  }

 private:
  std::optional<Part> part_;
  std::string &reason_;
};

/// One pass for all: QUIP's side, and what may be ours.
class Reader : public mlsel::XmlHandler {
 public:
  Reader(mlsel::QuipFile &file, bool library_only)
      : file_(file), quip_(file), gap_(file.path, file.reason), core_(file.path, file.core_reason)
  {
    if (!library_only) return;
    gap_.give_up();
    core_.give_up();
  }

  void opened(const std::string &tag, const Attributes &attributes) override
  {
    gap_.with([&](mlsel::GapReader &gap) { gap.opened(tag, attributes); });
    core_.with([&](mlsel::GlueReader &core) { core.opened(tag, attributes); });
    quip_.are_points_read = gap_.goes_on();
    quip_.opened(tag, attributes);
  }
  void text(const std::string &tag, std::string_view words) override
  {
    gap_.with([&](mlsel::GapReader &gap) { gap.text(tag, words); });
    quip_.text(tag, words);
  }
  void closed(const std::string &tag) override
  {
    gap_.with([&](mlsel::GapReader &gap) { gap.closed(tag); });
    core_.with([&](mlsel::GlueReader &core) { core.closed(tag); });
    quip_.closed(tag);
  }
  void finish()
  {
    quip_.finish();
    gap_.with([&](mlsel::GapReader &gap) {
      file_.gap = gap.finish();
      file_.gap_label = gap.label();
    });
    core_.with([&](mlsel::GlueReader &core) {
      file_.core = core.finish();
      file_.core_label = core.label();
    });
  }

 private:
  mlsel::QuipFile &file_;
  QuipReader quip_;
  Attempt<mlsel::GapReader> gap_;
  Attempt<mlsel::GlueReader> core_;
};

/// The value of a word key=value or key={several words}, whose braces may hold braces; "" if there
/// is none.
std::string value_of(const std::string &init, const std::string &key)
{
  const size_t at = init.find(key + '=');
  if (at == std::string::npos || (at > 0 && !is_space(init[at - 1]))) return "";
  const size_t begin = at + key.size() + 1;
  size_t end = begin;
  int depth = 0;
  for (; end < init.size() && (depth > 0 || !is_space(init[end])); end++) {
    if (init[end] == '{') ++depth;
    if (init[end] == '}') --depth;
  }
  std::string value = init.substr(begin, end - begin);
  if (value.size() >= 2 && value.front() == '{' && value.back() == '}')
    value = value.substr(1, value.size() - 2);
  return value;
}

/// Whether the init string is "IP name" or "IP name label=label" and nothing else.
bool is_only(const std::string &init, const std::string &name, const std::string &label)
{
  const std::vector<std::string> said = mlsel::words(init);
  return said.size() >= 2 && said.size() <= 3 && said[0] == "IP" && said[1] == name &&
      (said.size() == 2 || said[2] == "label=" + label);
}

/// "IP SW", for a file that has <SW_params>.
std::string example(const mlsel::QuipFile &file)
{
  const std::string name = file.parameters.empty() ? "SW_params" : file.parameters.front();
  return "\"IP " + name.substr(0, name.size() - 7) + '"';
}

}    // namespace

namespace mlsel {

QuipFile read_quip_file(const std::string &path, bool library_only)
{
  QuipFile file;
  file.path = path;
  Reader reader(file, library_only);
  read_xml(path, read_whole(path), reader);
  reader.finish();
  return file;
}

std::string quip_init_string(const QuipFile &file, const std::string &given, std::string &left_out)
{
  const auto &all = file.potentials;
  std::string known;
  for (const auto &one : all) known += (known.empty() ? "" : ", ") + one.label;
  if (words(given).empty()) {
    if (all.empty())
      fail(file.path,
           "has no <Potential label=…>: give QUIP's name of it after the file, " + example(file));
    if (all.size() == 1) return "Potential xml_label=" + all.front().label;
    // a GAP's core potential brings its own
    const QuipFile::Potential *with_gap = nullptr;
    int n = 0;
    for (const auto &one : all)
      if (one.init.find("IP GAP") != std::string::npos) {
        with_gap = &one;
        ++n;
      }
    if (n != 1)
      fail(file.path,
           "holds several potentials: name one of them, \"Potential xml_label=…\": " + known);
    return "Potential xml_label=" + with_gap->label;
  }
  const std::string key = "xml_label=";
  const size_t at = given.find(key);
  if (at != std::string::npos) {
    size_t end = at + key.size();
    while (end < given.size() && !is_space(given[end])) ++end;
    const std::string label = given.substr(at + key.size(), end - at - key.size());
    for (const auto &one : all)
      if (one.label == label) return given;
    fail(file.path,
         "has no potential with xml_label=" + label + "; it has: " +
             (known.empty() ? "none, " + example(file) + " is how its parameters are asked for"
                            : known));
  }
  // the file may describe a sum, of which "IP GAP" is a part
  for (const auto &one : all)
    if (one.init.find("Sum") != std::string::npos && given.find("Sum") == std::string::npos)
      left_out = "\"" + given + "\" is a part of what " + file.path + " describes, \"" + one.init +
          "\": the rest is left out; \"Potential xml_label=" + one.label + "\" is all of it";
  const bool is_gap =
      words(given).size() >= 2 && words(given)[0] == "IP" && words(given)[1] == "GAP";
  if (is_gap && given.find("label=") == std::string::npos && file.gaps.size() == 1)
    return given + " label=" + file.gaps.front();
  return given;
}

std::optional<GapFile> our_part(const QuipFile &file, const std::string &init, std::string &reason)
{
  if (!file.gap) {
    reason = file.reason;
    return std::nullopt;
  }
  std::string all = init;
  if (const std::string label = value_of(init, "xml_label"); !label.empty()) {
    const std::vector<std::string> said = words(init);
    const bool is_plain = said.size() == 1 || (said.size() == 2 && said[0] == "Potential");
    for (const auto &one : file.potentials)
      if (is_plain && one.label == label) all = one.init;
  }
  if (is_only(all, "GAP", file.gap_label)) return file.gap;
  const std::string parts[2] = {value_of(all, "init_args_pot1"), value_of(all, "init_args_pot2")};
  for (const int gap : {0, 1}) {
    const std::vector<std::string> said = words(parts[1 - gap]);
    if (all.rfind("Sum ", 0) != 0 || !is_only(parts[gap], "GAP", file.gap_label) || said.size() < 2)
      continue;
    if (!is_only(parts[1 - gap], "Glue", file.core_label)) {
      reason = "has a core potential, \"" + parts[1 - gap] + "\"";
      return std::nullopt;
    }
    if (!file.core) {
      reason = file.core_reason;
      return std::nullopt;
    }
    std::optional<GapFile> sum = file.gap;
    sum->cores.push_back(*file.core);
    return sum;
  }
  reason = "is more than a GAP: \"" + all + '"';
  return std::nullopt;
}

}    // namespace mlsel
