#include "xml_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

namespace mlsel {
namespace {

bool is_name(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
      c == '-' || c == '.' || c == ':' || static_cast<unsigned char>(c) >= 0x80;
}

/// One pass over the elements.
class Reader {
 public:
  Reader(const std::string &path, const std::string &text, XmlHandler &handler)
      : path_(path), text_(text), handler_(handler)
  {
  }

  void read()
  {
    check_characters();
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
  }

 private:
  /// QUIP's parser ends the process at characters that XML does not have.
  void check_characters() const
  {
    for (size_t at = 0; at < text_.size(); ++at) {
      const unsigned char c = text_[at];
      if (c >= 0x20 || c == '\t' || c == '\n' || c == '\r') continue;
      if (c == 0) fail(path_, "is no XML: it holds binary data");
      const auto line = 1 + std::count(text_.begin(), text_.begin() + at, '\n');
      fail(path_,
           "is no XML: line " + std::to_string(line) + " holds a character of code " +
               std::to_string(c) + ", which XML does not have");
    }
  }

  bool starts(std::string_view what) const { return text_.compare(at_, what.size(), what) == 0; }

  void skip_past(const char *what)
  {
    const size_t end = text_.find(what, at_);
    if (end == std::string::npos) fail(path_, std::string("is cut off: no ") + what + " follows");
    at_ = end + std::string(what).size();
  }

  void read_text()
  {
    const size_t end = std::min(text_.find('<', at_), text_.size());
    const std::string_view words(text_.data() + at_, end - at_);
    if (open_.empty()) {
      for (char c : words)
        if (!is_space(c)) fail(path_, "is no XML: it has text outside its elements");
    } else {
      handler_.text(open_.back(), words);
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
      fail(path_,
           "is no XML: </" + tag + "> closes " +
               (open_.empty() ? std::string("nothing") : "<" + open_.back() + ">"));
    open_.pop_back();
    handler_.closed(tag);
  }

  void open()
  {
    ++at_;
    const std::string tag = name();
    Attributes attributes;
    bool is_empty = false;
    for (;;) {
      spaces();
      if (at_ >= text_.size()) fail(path_, "is cut off inside <" + tag);
      if (text_[at_] == '>') {
        ++at_;
        break;
      }
      if (starts("/>")) {
        at_ += 2;
        is_empty = true;
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
    handler_.opened(tag, attributes);
    if (is_empty)
      handler_.closed(tag);
    else
      open_.push_back(tag);
  }

  const std::string &path_;
  const std::string &text_;
  XmlHandler &handler_;
  size_t at_ = 0;
  std::vector<std::string> open_;
};

}    // namespace

void read_xml(const std::string &path, const std::string &text, XmlHandler &handler)
{
  Reader(path, text, handler).read();
}

double number(const std::string &path, const std::string &name, const std::string &text)
{
  const char *begin = text.data(), *end = begin + text.size();
  while (begin < end && is_space(*begin)) ++begin;
  while (end > begin && is_space(end[-1])) --end;
  if (begin < end && *begin == '+') ++begin;
  double value = 0;
  const auto result = std::from_chars(begin, end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value))
    fail(path, "has " + name + "=\"" + text + "\", not a number");
  return value;
}

static const std::string &attribute(const std::string &path, const Attributes &attributes,
                                    const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  return found->second;
}

double real(const std::string &path, const Attributes &attributes, const char *name)
{
  return number(path, name, attribute(path, attributes, name));
}

int integer(const std::string &path, const Attributes &attributes, const char *name)
{
  const double value = real(path, attributes, name);
  if (value != std::floor(value) || std::abs(value) > 2e9)
    fail(path,
         std::string("has ") + name + "=\"" + attribute(path, attributes, name) +
             "\", not a whole number");
  return static_cast<int>(value);
}

std::string optional(const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  return found == attributes.end() ? "" : found->second;
}

}    // namespace mlsel
