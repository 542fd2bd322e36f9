//! Which of the task's volumes a container sees, and where: its own mount points, and those of the
//! containers whose volumes it takes over.
//!
//! It does not know where a volume is on the machine. Invariant: a path is mounted once; what the
//! container says itself counts, then what it names first.

use muster_model::spec::{ContainerDefinition, MountPoint, TaskDefinition};

pub fn mount_points(task: &TaskDefinition, container: &ContainerDefinition) -> Vec<MountPoint> {
    let mut points = Vec::new();
    let mut seen = Vec::new();
    collect(task, container, Access::AsGiven, &mut seen, &mut points);
    points
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    AsGiven,
    ReadOnly,
}

fn collect<'a>(
    task: &'a TaskDefinition,
    container: &'a ContainerDefinition,
    access: Access,
    seen: &mut Vec<&'a str>,
    points: &mut Vec<MountPoint>,
) {
    // Containers may name each other: everybody's volumes are those of all, then.
    if seen.contains(&container.name.as_str()) {
        return;
    }
    seen.push(&container.name);
    for point in &container.mount_points {
        let path = point.container_path.trim_end_matches('/');
        if points.iter().all(|p| p.container_path.trim_end_matches('/') != path) {
            let read_only = point.read_only || access == Access::ReadOnly;
            points.push(MountPoint { read_only, ..point.clone() });
        }
    }
    for from in &container.volumes_from {
        let Some(source) = task.containers.iter().find(|c| c.name == from.container) else {
            continue;
        };
        let access = if from.read_only { Access::ReadOnly } else { access };
        collect(task, source, access, seen, points);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::spec::VolumeFrom;

    fn container(
        name: &str,
        mounts: &[(&str, &str)],
        from: &[(&str, bool)],
    ) -> ContainerDefinition {
        let mount = |(volume, path): &(&str, &str)| MountPoint {
            source_volume: (*volume).into(),
            container_path: (*path).into(),
            read_only: false,
        };
        let source = |(container, read_only): &(&str, bool)| VolumeFrom {
            container: (*container).into(),
            read_only: *read_only,
        };
        ContainerDefinition {
            name: name.into(),
            mount_points: mounts.iter().map(mount).collect(),
            volumes_from: from.iter().map(source).collect(),
            ..ContainerDefinition::default()
        }
    }

    #[test]
    fn volumes_of_others_are_taken_over_with_theirs_and_never_in_place_of_ones_own() {
        let task = TaskDefinition {
            containers: vec![
                container("app", &[("own", "/data/")], &[("files", true)]),
                container("files", &[("a", "/data"), ("b", "/b")], &[("more", false)]),
                container("more", &[("c", "/c")], &[("app", false)]),
            ],
            ..TaskDefinition::default()
        };
        let seen: Vec<(String, String, bool)> = mount_points(&task, &task.containers[0])
            .into_iter()
            .map(|p| (p.source_volume, p.container_path, p.read_only))
            .collect();
        let wanted = [("own", "/data/", false), ("b", "/b", true), ("c", "/c", true)];
        assert_eq!(seen, wanted.map(|(v, p, r)| (v.to_owned(), p.to_owned(), r)));
    }
}
