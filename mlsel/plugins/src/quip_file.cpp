#include "quip_file.h"

#include <algorithm>
#include <cstdlib>

#include "gap_descriptor.h"
#include "gap_reader.h"
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
  const auto slash = path.rfind('/');
  const std::string file = slash == std::string::npos ? name : path.substr(0, slash + 1) + name;
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

/// One pass for two: QUIP's side, and our GAPs until the file turns out to be none.
class Reader : public mlsel::XmlHandler {
 public:
  Reader(mlsel::QuipFile &file, bool library_only) : file_(file), quip_(file)
  {
    if (!library_only) gap_.emplace(file.path);
  }

  void opened(const std::string &tag, const Attributes &attributes) override
  {
    to_gap([&](mlsel::GapReader &gap) { gap.opened(tag, attributes); });
    quip_.are_points_read = gap_.has_value();
    quip_.opened(tag, attributes);
  }
  void text(const std::string &tag, std::string_view words) override
  {
    to_gap([&](mlsel::GapReader &gap) { gap.text(tag, words); });
    quip_.text(tag, words);
  }
  void closed(const std::string &tag) override
  {
    to_gap([&](mlsel::GapReader &gap) { gap.closed(tag); });
    quip_.closed(tag);
  }
  void finish()
  {
    quip_.finish();
    to_gap([&](mlsel::GapReader &gap) { file_.gap = gap.finish(); });
  }

 private:
  template <typename Call> void to_gap(Call call)
  {
    if (!gap_) return;
    try {
      call(*gap_);
    } catch (const mlsel::NotCovered &exception) {
      file_.reason = exception.what();
      gap_.reset();
    }
  }

  mlsel::QuipFile &file_;
  QuipReader quip_;
  std::optional<mlsel::GapReader> gap_;
};

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
    if (all.size() > 1)
      fail(file.path,
           "holds several potentials: name one of them, \"Potential xml_label=…\": " + known);
    return "Potential xml_label=" + all.front().label;
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

bool is_plain_gap(const QuipFile &file, const std::string &given)
{
  if (file.gaps.size() != 1) return false;
  const std::string &label = file.gaps.front();
  const std::vector<std::string> said = words(given);
  return said.empty() ||
      (said.size() == 2 && said[0] == "Potential" && said[1] == "xml_label=" + label) ||
      (said.size() >= 2 && said[0] == "IP" && said[1] == "GAP" &&
       (said.size() == 2 || (said.size() == 3 && said[2] == "label=" + label)));
}

}    // namespace mlsel
