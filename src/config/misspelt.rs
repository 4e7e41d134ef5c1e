//! What somebody may have meant by a word that nobody knows.

/// The most similar of these names, if it is similar enough to be meant; letters count whatever their
/// case.
pub fn meant<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let enough = (word.len() / 3).clamp(1, 3);
    let near = names.into_iter().map(|name| (distance(word, name), name));
    let nearest = near.filter(|(distance, _)| *distance <= enough).min();
    nearest.map(|(_, name)| name)
}

/// What to add to a message about a word that nobody knows: nothing if no name is similar enough.
pub fn hint<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    meant(word, names).map_or(String::new(), |meant| format!(" (did you mean {meant}?)"))
}

/// How many letters were left out, added, mistaken, or swapped with the next.
fn distance(word: &str, name: &str) -> usize {
    let letters = |text: &str| text.bytes().map(|letter| letter.to_ascii_lowercase()).collect();
    let (word, name): (Vec<u8>, Vec<u8>) = (letters(word), letters(name));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=name.len()).collect();
    for row in 1..=word.len() {
        let mut next = vec![row];
        for column in 1..=name.len() {
            let same = word[row - 1] == name[column - 1];
            let mut least = (last[column - 1] + usize::from(!same))
                .min(last[column] + 1)
                .min(next[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && word[row - 1] == name[column - 2]
                && word[row - 2] == name[column - 1];
            if swapped {
                least = least.min(before[column - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let names = ["rotate", "lifetime", "label", "bind", "nginx", "x"];
        for (word, name) in [
            ("rotte", Some("rotate")),
            ("ROTATE", Some("rotate")),
            ("rotaet", Some("rotate")),
            ("lifetme", Some("lifetime")),
            ("life_time", Some("lifetime")),
            ("ngnix", Some("nginx")),
            ("bindd", Some("bind")),
            ("xy", Some("x")),
            ("haproxy", None),
            ("soon", None),
            ("", Some("x")),
        ] {
            assert_eq!(meant(word, names), name, "{word}");
        }
        assert_eq!(meant("anything", []), None);
    }
}
